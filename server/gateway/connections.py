"""Limits on the connections of the gateway: how many, for how long, and whose.

A connection is counted by its address until the TLS handshake is done, and by the key of its certificate from then on.
If a limit is reached, the oldest connection under that limit is closed. So connections that do nothing cannot keep
others out, and an institution can only push out its own. A certificate that may not pass gets status 401 without a look
at its request, and pushes out none that may.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Hashable
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from common.errors import EnrolmentError
from common.identity.authority import Certificate

__all__ = ["Connection", "Entrance", "Limit", "door", "refusal"]

HANDSHAKE_WITHIN_S = 10.0
HEAD_WITHIN_S = 20.0
"""Seconds in which the head of a request must arrive, from the beginning of the connection or from its first byte."""
HANDSHAKES, HANDSHAKES_BY_ADDRESS, BY_CERTIFICATE = 512, 64, 16
"""Largest numbers of connections. A node of Flower needs about four."""
_LINGER_S = 1.0
"""Seconds in which a refused client may read its answer."""
_UNAUTHORIZED = "HTTP/1.1 401 Unauthorized\r\n{}: {}\r\ndate: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

log = logging.getLogger("fedfin.gateway")


def refusal(reason: str) -> tuple[bytes, bytes]:
    """Return the header that tells an institution why it is refused, in a few words such as "revoked" or "clock"."""
    return b"fedfin-refused", reason.encode("ascii")


class Limit:
    """Counts connections by a key, and closes the oldest one of a key that has too many.

    Args:
        most: Largest number of open connections of one key.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Hashable, dict[object, Callable[[], None]]] = {}

    def add(self, key: Hashable, connection: object, close: Callable[[], None]) -> None:
        """Count a connection under `key`. `close` ends it, should it become the oldest of too many."""
        same = self._open.setdefault(key, {})
        same[connection] = close
        while len(same) > self._most:
            same.pop(next(iter(same)))()

    def remove(self, key: Hashable, connection: object) -> None:
        """Count a connection no longer."""
        same = self._open.get(key, {})
        same.pop(connection, None)
        if not same:
            self._open.pop(key, None)

    def count(self) -> int:
        """Return the number of open connections of all keys."""
        return sum(map(len, self._open.values()))


class Entrance:
    """The parts that all connections share.

    Args:
        context: TLS context, which requires client certificates.
        objection: Returns the reason against a certificate, or "" if it may pass.
    """

    def __init__(self, context: ssl.SSLContext, objection: Callable[[Certificate], str]) -> None:
        self.context, self.objection = context, objection
        self.handshakes, self.by_address = Limit(HANDSHAKES), Limit(HANDSHAKES_BY_ADDRESS)
        self.by_certificate = Limit(BY_CERTIFICATE)
        self.established: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def close_objectionable(self) -> None:
        """Close the connections whose certificate was revoked or expired since they were made."""
        peers = {connection.peer for connection in self.established if connection.peer is not None}
        for peer in peers:
            if reason := self.objection(peer):
                log.warning("the connections of %s are closed: %s", peer.name, reason)
                for connection in [each for each in self.established if each.peer == peer]:
                    connection.transport.abort()


class Connection(H11Protocol):
    """An HTTP connection after the handshake. The peer's certificate is in the state of each of its requests."""

    peer: Certificate | None = None
    entrance: Entrance
    _is_refused = False
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            self.peer = Certificate.of_der(der) if der else None
        except EnrolmentError:
            self.peer = None
        self.app_state = {**self.app_state, "peer": self.peer, "abort": transport.abort}
        super().connection_made(transport)
        reason = "no certificate" if self.peer is None else self.entrance.objection(self.peer)
        name = self.peer.name if self.peer is not None else ""
        self.entrance.established.add(self)
        self.entrance.by_certificate.add(self._key, self, transport.abort)
        if reason:
            log.warning("%s refused: %s", name or "a client", reason)
            self._is_refused = True
            header, value = (part.decode() for part in refusal(reason))
            transport.write(_UNAUTHORIZED.format(header, value, formatdate(usegmt=True)).encode())
            self._head = self.loop.call_later(_LINGER_S, transport.abort)
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self.entrance.established.discard(self)
        self.entrance.by_certificate.remove(self._key, self)
        super().connection_lost(exc)

    @property
    def _key(self) -> str:
        """Digest of the key of the certificate. An older certificate of the same name may be in other hands."""
        return self.peer.key if self.peer is not None else ""

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_arrived()
        else:
            self._await_head()

    def on_response_complete(self) -> None:
        # Between two requests, the pause is limited by uvicorn's own timeout.
        self._head_arrived()
        super().on_response_complete()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)

    def _head_arrived(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class Door(asyncio.Protocol):
    """A TCP connection before and during its handshake. Then a `Connection` takes its place.

    uvicorn makes one for each connection and passes the arguments of its own protocols.
    """

    entrance: Entrance

    def __init__(self, **given: Any) -> None:
        self._given = given
        self._early, self._is_lost = bytearray(), False
        self._transport: asyncio.Transport | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport) or self._transport is not None:
            return
        self._transport = transport
        transport.pause_reading()
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        entrance = self.entrance
        entrance.handshakes.add(None, self, transport.abort)
        entrance.by_address.add(self._address, self, transport.abort)
        task = asyncio.get_running_loop().create_task(self._shake_hands(transport))
        entrance.tasks.add(task)
        task.add_done_callback(entrance.tasks.discard)

    def data_received(self, data: bytes) -> None:
        """Keep the first bytes of a request, which may arrive together with the end of the handshake."""
        self._early += data

    def connection_lost(self, _: Exception | None) -> None:
        self._is_lost = True

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        loop, entrance = asyncio.get_running_loop(), self.entrance
        try:
            if transport.is_closing():
                return
            secured = await loop.start_tls(
                transport, self, entrance.context, server_side=True, ssl_handshake_timeout=HANDSHAKE_WITHIN_S
            )
        except (OSError, ssl.SSLError) as error:
            log.info("a handshake with %s failed (%s)", self._address, type(error).__name__)
            transport.abort()
            return
        finally:
            entrance.handshakes.remove(None, self)
            entrance.by_address.remove(self._address, self)
        if secured is None or self._is_lost:
            return
        connection = Connection(**self._given)
        connection.entrance = entrance
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._early:
            connection.data_received(bytes(self._early))


def door(entrance: Entrance) -> type[Door]:
    """Return the class that uvicorn makes of each connection."""
    return type("Door", (Door,), {"entrance": entrance})

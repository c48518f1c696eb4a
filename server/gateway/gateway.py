"""The only port open to institutions: mutual TLS in front of the SuperLink, for Flower's fleet calls alone.

The client certificate identifies the institution. The node key, which Flower's own authentication then proves, must be
the one enrolled under the same name. A Flower node leaves on status 401 and tries again on 503. Status 403 would leave
it hanging, so the gateway never sends it.
"""

import argparse
import asyncio
import base64
import binascii
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.errors import EnrolmentError, FedfinError
from common.flower.internals import NODE_KEY_HEADER
from common.identity.authority import Certificate
from common.identity.revocations import Revocations
from common.identity.tls import server_context, split_address
from server.hub.directory import HubDirectory

__all__ = ["Doorkeeper", "Gateway", "main", "serve"]

FLEET = "/v1/fleet/"
# Nodes are registered by the operator, through enrolment.
_CLOSED = ("/v1/fleet/register-node", "/v1/fleet/unregister-node")
_FORWARDED = ("content-type", "accept", "user-agent")
_FLOWER_HEADERS = "flwr-"
_DROPPED = ("connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "server", "date")
_UPSTREAM_TIMEOUT_S = 60.0
_RELOAD_EVERY_S = 1.0

log = logging.getLogger("fedfin.gateway")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Doorkeeper:
    """Decides which requests may pass. It reads the hub's directory again whenever a file there changes.

    Args:
        home: The hub's directory.
    """

    def __init__(self, home: HubDirectory) -> None:
        self._home = home
        self._stamp: object = None
        self._revoked = Revocations()
        self._node_keys: dict[str, str] = {}

    def objection(self, peer: Certificate, node_key: str | None) -> str:
        """Return the reason against a request, or "" if it may pass.

        Args:
            peer: Certificate of the connection.
            node_key: Value of Flower's header for the node key (PEM, in base64).

        Raises:
            FedfinError: The hub's own files are damaged, so no request may pass.
        """
        self._refresh()
        if self._revoked.covers(peer):
            return "revoked"
        if peer.days_left() <= 0:
            return "expired"
        if peer.name not in self._node_keys:
            return "not enrolled"
        try:
            key = base64.b64decode(node_key or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "no node key"
        return "" if key == self._node_keys[peer.name] else "another institution's node key"

    def _refresh(self) -> None:
        stamp = self._home.enrolment_stamp()
        if stamp == self._stamp:
            return
        self._revoked = self._home.revocations()
        self._node_keys = {name: entry.request.node_key for name, entry in self._home.members().items()}
        self._stamp = stamp


class Gateway:
    """The ASGI application: checks a request, then forwards it to the SuperLink on loopback.

    Args:
        doorkeeper: Decides which requests may pass.
        upstream: Client of the SuperLink.
        max_body: Size limit of a request, in bytes.
    """

    def __init__(self, doorkeeper: Doorkeeper, upstream: httpx.AsyncClient, max_body: int) -> None:
        self._doorkeeper, self._upstream, self._max_body = doorkeeper, upstream, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        path, headers = scope["path"], {key.decode("latin-1"): value for key, value in scope["headers"]}
        if scope["method"] != "POST" or not path.startswith(FLEET) or path in _CLOSED or "/" in path[len(FLEET) :]:
            return 404, [], b""
        peer: Certificate | None = scope["state"].get("peer")
        if peer is None:
            return 401, [], b""
        node_key = headers.get(NODE_KEY_HEADER.lower(), b"").decode("latin-1")
        try:
            objection = self._doorkeeper.objection(peer, node_key)
        except FedfinError as error:
            log.error("all requests are refused: %s", error)
            return 503, [], b""
        if objection:
            log.warning("%s refused at %s: %s", peer.name, path, objection)
            return 401, [], b""
        body = await self._read(receive, headers)
        if body is None:
            log.warning("%s refused at %s: a body of more than %d bytes", peer.name, path, self._max_body)
            return 413, [], b""
        return await self._forward(path, headers, body)

    async def _read(self, receive: Receive, headers: dict[str, bytes]) -> bytes | None:
        """Return the body, or None if it exceeds the limit, whatever length was declared."""
        declared = headers.get("content-length", b"0")
        if not declared.isdigit() or int(declared) > self._max_body:
            return None
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return None
            if not event.get("more_body", False):
                return b"".join(parts)

    async def _forward(
        self, path: str, headers: dict[str, bytes], body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        passed = {
            key: value.decode("latin-1")
            for key, value in headers.items()
            if key in _FORWARDED or key.startswith(_FLOWER_HEADERS)
        }
        try:
            answer = await self._upstream.post(path, headers=passed, content=body)
        except httpx.HTTPError as error:
            log.warning("the SuperLink does not answer (%s)", type(error).__name__)
            return 503, [], b""
        kept = [
            (key.lower().encode("latin-1"), value.encode("latin-1"))
            for key, value in answer.headers.multi_items()
            if key.lower() not in _DROPPED
        ]
        return answer.status_code, [*kept, (b"content-length", str(len(answer.content)).encode())], answer.content


class _Connection(H11Protocol):
    """Puts the peer's certificate into the state of every request, for the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            peer = Certificate.of_der(der) if der else None
        except EnrolmentError:
            peer = None
        self.app_state = {**self.app_state, "peer": peer}
        super().connection_made(transport)


async def serve(home: HubDirectory, upstream: str) -> None:
    """Serve until a signal stops the process. A new server certificate is used for all later connections.

    Args:
        home: The hub's directory.
        upstream: host:port of the SuperLink.

    Raises:
        EnrolmentError, ConfigurationError: Certificate, key or configuration cannot be used.
    """
    settings = home.settings().gateway
    context = server_context(home.server_certificate, home.server_key, home.authority_certificate)
    host, port = split_address(settings.listen)
    verify = ssl.create_default_context(cafile=str(home.authority_certificate))
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(
        base_url=f"https://{upstream}", verify=verify, timeout=_UPSTREAM_TIMEOUT_S, limits=limits
    ) as client:
        gateway = Gateway(Doorkeeper(home), client, settings.max_body_mib * 2**20)
        config = uvicorn.Config(
            gateway,
            host=host,
            port=port,
            http=_Connection,
            ws="none",
            lifespan="off",
            ssl_context_factory=lambda *_: context,
            server_header=False,
            date_header=False,
            access_log=False,
            log_level="warning",
            timeout_keep_alive=75,
            limit_concurrency=500,
        )
        server = uvicorn.Server(config)
        reload = asyncio.create_task(_reload(home, context))
        try:
            await server.serve()
        finally:
            reload.cancel()


async def _reload(home: HubDirectory, context: ssl.SSLContext) -> None:
    """Load a rotated server certificate into the TLS context that is in use."""
    loaded = home.server_certificate.stat().st_mtime_ns
    while True:
        await asyncio.sleep(_RELOAD_EVERY_S)
        try:
            changed = home.server_certificate.stat().st_mtime_ns
            if changed != loaded:
                context.load_cert_chain(home.server_certificate, home.server_key)
                loaded = changed
                log.info("the new server certificate is in use")
        except (OSError, ssl.SSLError) as error:
            log.error("the new server certificate cannot be used (%s): the old one stays", type(error).__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway, as a process of `fedfin-hub start`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="server.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--upstream", required=True, help="the SuperLink's address on loopback")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(HubDirectory.open(args.home), args.upstream))
    except FedfinError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

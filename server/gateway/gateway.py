"""The only port open to institutions: mutual TLS in front of the SuperLink, for Flower's fleet calls alone.

The client certificate identifies the institution. The node key, which Flower's own authentication then proves, must be
the one enrolled under the same name. A Flower node leaves on status 401 and tries again on 503. Status 403 would leave
it hanging, so the gateway never sends it.
"""

import argparse
import asyncio
import logging
import resource
import ssl
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from common.errors import FedfinError
from common.flower.internals import NODE_KEY_HEADER, TIMESTAMP_HEADER
from common.identity.authority import Certificate
from common.identity.keyring import receive
from common.identity.tls import load_chain, server_context, split_address
from common.processes.inspection import forbid_inspection
from common.processes.logs import RateLimit
from common.processes.supervisor import end_with_parent
from server.gateway.connections import Entrance, door, refusal
from server.gateway.doorkeeper import Doorkeeper
from server.hub.clocks import ClockWatch
from server.hub.directory import HubDirectory
from server.hub.paths import Slot
from server.hub.uploads import UploadQuota

__all__ = ["ALLOWED", "Gateway", "main", "make_server", "serve"]

ALLOWED = frozenset(
    f"/v1/fleet/{call}"
    for call in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""The calls that pass. Two more, by which nodes register themselves, do not: the operator registers them."""
_FORWARDED = ("content-type", "accept", "user-agent")
_FLOWER_HEADERS = "flwr-"
_DROPPED = ("connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "server", "date")
_UPSTREAM_TIMEOUT_S = 60.0
_UPSTREAM_IDLE_S = 2.0
"""Seconds for which an idle connection to the SuperLink is kept. The SuperLink itself closes it after five."""
_REQUEST_WITHIN_S = 120.0
"""Seconds from the head of a request to the end of the answer."""
_LOOK_EVERY_S = 1.0
"""Seconds between two looks at the files of the hub: a new server certificate, revocations."""
_MOST_FILES = 65_536

log = logging.getLogger("fedfin.gateway")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gateway:
    """The ASGI application: checks a request, then forwards it to the SuperLink on loopback.

    Args:
        doorkeeper: Decides which requests may pass.
        upstream: Client of the SuperLink.
        max_body: Size limit of a request, in bytes.
        quota: Limits the bytes that an institution sends in a round.
        clocks: Compares the clocks of the institutions with the hub's.
    """

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        upstream: httpx.AsyncClient,
        max_body: int,
        quota: UploadQuota,
        clocks: ClockWatch,
    ) -> None:
        self._doorkeeper, self._upstream, self._max_body = doorkeeper, upstream, max_body
        self._quota, self._clocks = quota, clocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or close its connection if it takes too long."""
        if scope["type"] != "http":
            return
        try:
            async with asyncio.timeout(_REQUEST_WITHIN_S):
                status, headers, body = await self._answer_or_503(scope, receive)
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
        except TimeoutError:
            peer: Certificate | None = scope["state"].get("peer")
            log.warning("a request of %s took too long", peer.name if peer else "a client")
            scope["state"]["abort"]()

    async def _answer_or_503(self, scope: Scope, receive: Receive) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        try:
            return await self._answer(scope, receive)
        except TimeoutError:
            raise
        except Exception:  # a fault of the hub, after which a node must try again: at 500 it would hang
            log.exception("a request could not be answered")
            return 503, [], b""

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        path, headers = scope["path"], {key.decode("latin-1"): value for key, value in scope["headers"]}
        if scope["method"] != "POST" or path not in ALLOWED:
            return 404, [], b""
        peer: Certificate | None = scope["state"].get("peer")
        if peer is None:
            return 401, [], b""
        node_key = headers.get(NODE_KEY_HEADER.lower(), b"").decode("latin-1")
        try:
            objection = self._doorkeeper.objection(peer, node_key)
        except (FedfinError, OSError) as error:
            log.error("all requests are refused: %s", error)
            return 503, [], b""
        if objection:
            log.warning("%s refused at %s: %s", peer.name, path, objection)
            return 401, [refusal(objection)], b""
        if not self._clocks.observe(peer.name, headers.get(TIMESTAMP_HEADER.lower(), b"").decode("latin-1")):
            return 401, [refusal("clock")], b""
        body = await self._read(receive, headers)
        if body is not None and not self._quota.take(peer.name, len(body)):
            log.warning("%s refused at %s: it has sent more than this round allows", peer.name, path)
            return 413, [], b""
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
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            # After 503 a node tries again. After 500 it drops its answer, and its heartbeats end.
            log.warning("the SuperLink failed at %s: see its log", path)
            return 503, [], b""
        kept = [
            (key.lower().encode("latin-1"), value.encode("latin-1"))
            for key, value in answer.headers.multi_items()
            if key.lower() not in _DROPPED
        ]
        return answer.status_code, [*kept, (b"content-length", str(len(answer.content)).encode())], answer.content


def make_server(home: HubDirectory, upstream: httpx.AsyncClient) -> tuple[uvicorn.Server, Entrance]:
    """Return the server, not started, and the part that all its connections share.

    Args:
        home: The hub's directory.
        upstream: Client of the SuperLink.

    Raises:
        EnrolmentError, ConfigurationError: Certificate, key or configuration cannot be used.
    """
    settings = home.settings().gateway
    secret = home.secret(Slot.GATEWAY)
    context = server_context(home.server_certificate, home.server_key, home.authority_certificate, secret)
    # An approved authority may be an issuing one, whose root is not known here.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=home.client_authorities())
    host, port = split_address(settings.listen)
    doorkeeper = Doorkeeper(home)
    entrance = Entrance(context, doorkeeper.objection_to)
    config = uvicorn.Config(
        Gateway(doorkeeper, upstream, settings.max_body_mib * 2**20, UploadQuota(home), ClockWatch(home)),
        host=host,
        port=port,
        http=door(entrance),
        ws="none",
        lifespan="off",
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=75,
    )
    return uvicorn.Server(config), entrance


async def serve(home: HubDirectory, upstream: str) -> None:
    """Serve until a signal stops the process. A new server certificate is used for all later connections.

    Args:
        home: The hub's directory.
        upstream: host:port of the SuperLink.

    Raises:
        EnrolmentError, ConfigurationError: Certificate, key or configuration cannot be used.
    """
    limits = httpx.Limits(max_connections=200, keepalive_expiry=_UPSTREAM_IDLE_S)
    async with httpx.AsyncClient(
        base_url=f"https://{upstream}",
        verify=home.loopback.client(),
        timeout=_UPSTREAM_TIMEOUT_S,
        limits=limits,
        trust_env=False,
    ) as client:
        server, entrance = make_server(home, client)
        watch = asyncio.create_task(_watch(home, entrance))
        try:
            await server.serve()
        finally:
            watch.cancel()


async def _watch(home: HubDirectory, entrance: Entrance) -> None:
    """Load a rotated server certificate and newly approved authorities into the TLS context in use, and close
    connections that were revoked.
    """
    loaded, stamp = home.server_certificate.stat().st_mtime_ns, None
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        try:
            entrance.close_objectionable()
            if (now := home.enrolment_stamp()) != stamp:
                # That of an institution which was revoked stays until a restart. Its name and keys are refused.
                entrance.context.load_verify_locations(cadata=home.client_authorities())
                stamp = now
        except Exception:  # the next look must take place
            log.exception("connections could not be compared with the revocations")
        try:
            changed = home.server_certificate.stat().st_mtime_ns
            if changed != loaded:
                load_chain(entrance.context, home.server_certificate, home.server_key, home.secret(Slot.GATEWAY))
                loaded = changed
                log.info("the new server certificate is in use")
        except (OSError, FedfinError) as error:
            log.error("the new server certificate cannot be used (%s): the old one stays", type(error).__name__)


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway, as a process of `fedfin-hub start`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="server.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--upstream", required=True, help="the SuperLink's address on loopback")
    args = parser.parse_args(arguments)
    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("httpx", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit())
    try:
        home = HubDirectory.open(args.home)
        if receive(home.lock_path):
            forbid_inspection()
        _allow_many_connections()
        asyncio.run(serve(home, args.upstream))
    except FedfinError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

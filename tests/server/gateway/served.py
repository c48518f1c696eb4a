"""A gateway that serves in a thread, for tests that connect to it with real TLS."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

import httpx

from server.gateway import gateway
from server.gateway.gateway import make_server
from server.hub.directory import HubDirectory

__all__ = ["Dialler", "Served", "until"]


class Dialler(Protocol):
    """A client with a certificate."""

    context: ssl.SSLContext


class Served:
    """A gateway that serves in a thread, in front of a SuperLink that answers everything with 200."""

    def __init__(self, home: HubDirectory) -> None:
        self.home, self.port = home, int(home.settings().gateway.listen.rpartition(":")[2])
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        until(lambda: hasattr(self, "server") and self.server.started)

    async def _serve(self) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"fine"))
        async with httpx.AsyncClient(base_url="https://superlink", transport=transport) as client:
            self.server, self.entrance = make_server(self.home, client)
            watch = asyncio.create_task(gateway._watch(self.home, self.entrance))
            await self.server.serve()
            watch.cancel()

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def secured(self, member: Dialler) -> ssl.SSLSocket:
        return member.context.wrap_socket(self.plain(), server_hostname="127.0.0.1")

    def status(self, member: Dialler) -> int:
        with self.secured(member) as tls:
            tls.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            return int(tls.recv(4096).split()[1])


def until(holds: Callable[[], bool], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)

"""The hub is reached directly, whatever proxy the environment names, or through the proxy that `start` was given."""

import http.server
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.commands import start
from client.node.connection import HubContact, describe
from client.node.flower_node import mutual_tls
from client.node.proxy import PROXY, checked_proxy, dial
from client.node.relay_fork_server import client_over
from common.errors import ConfigurationError
from tests.client.enrolled import enrol


class Tunnel(http.server.BaseHTTPRequestHandler):
    """A proxy that connects to the hosts that it is asked for, and remembers them."""

    asked: list[tuple[str, str | None]]

    def do_CONNECT(self) -> None:
        self.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.partition(":")
        try:
            far = socket.create_connection((host, int(port)), 5)
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        while True:
            ready, _, _ = select.select([self.connection, far], [], [], 20)
            for source, target in ((self.connection, far), (far, self.connection)):
                if source in ready:
                    if not (data := source.recv(65536)):
                        far.close()
                        return
                    target.sendall(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    handler: Any = type("Handler", (Tunnel,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


def test_a_proxy_of_the_environment_gets_neither_the_hubs_calls_nor_those_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: tuple[str, list[tuple[str, str | None]]]
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy[0])
        monkeypatch.setenv(name.lower(), proxy[0])
    monkeypatch.delenv("NO_PROXY", raising=False)
    home = enrol(tmp_path).home
    hub = mutual_tls(home, HubContact(home.hub_contact_path)).from_server_address("127.0.0.1:1", False, "", [])
    node = client_over(str(home.flower_socket)).from_server_address("x", True, None, interceptors=[])
    with pytest.raises(httpx.ConnectError):
        hub._client.get("https://127.0.0.1:1/")
    for client in (hub, node):
        assert client._client._mounts == {}  # httpx keeps the proxies of the environment there
        client.close()
    assert "HTTPS_PROXY is not used: start with --proxy" in describe(home, "127.0.0.1:1")
    assert proxy[1] == []


def test_the_chosen_proxy_gets_the_hubs_calls_as_a_tunnel_with_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: tuple[str, list[tuple[str, str | None]]]
) -> None:
    url, asked = proxy
    monkeypatch.setenv(PROXY, url.replace("//", "//bank:s%20cret@"))
    home = enrol(tmp_path).home
    hub = mutual_tls(home, HubContact(home.hub_contact_path)).from_server_address("127.0.0.1:1", False, "", [])
    with pytest.raises(httpx.ProxyError):
        hub._client.get("https://127.0.0.1:1/")
    hub.close()
    assert "502" in describe(home, "127.0.0.1:1")
    assert {target for target, _ in asked} == {"127.0.0.1:1"}
    assert {words for _, words in asked} == {"Basic YmFuazpzIGNyZXQ="}
    with socket.create_server(("127.0.0.1", 0)) as far, dial("127.0.0.1", far.getsockname()[1], url, 5) as near:
        accepted, _ = far.accept()
        near.sendall(b"x")
        assert accepted.recv(1) == b"x"
        accepted.close()


@pytest.mark.parametrize("url", ["proxy:3128", "https://proxy:1", "http://proxy", "http://proxy:x", "http://p:1/path"])
def test_what_is_no_proxy_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="write it as http://HOST:PORT"):
        checked_proxy(url)


def test_a_password_on_the_command_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROXY, raising=False)
    with pytest.raises(ConfigurationError, match="every user of the machine sees its password"):
        start._choose_proxy("http://bank:secret@proxy:3128")

"""One line says whether the hub is reached, and if not, the obstacle."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import pytest

from client.node.connection import HubContact, describe, hung_for, last_seen
from common.identity.authority import Authority, new_key_and_request
from common.identity.tls import server_context
from tests.client.enrolled import Enrolled, enrol


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    return enrol(tmp_path)


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A server that does one TLS handshake and answers a byte. Its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def serve(context: ssl.SSLContext) -> None:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as secured:
                secured.recv(100)
                secured.sendall(b"x")
        except OSError:
            plain.close()

    def start(authority: Authority, trusted: Authority | None = None, name: str = "127.0.0.1") -> str:
        key, request = new_key_and_request("server")
        files = {"key": key, "certificate": authority.issue_server(request, [name], timedelta(days=1)).encode()}
        files["trusted"] = (trusted or authority).pem.encode()
        for file, data in files.items():
            (tmp_path / f"server.{file}").write_bytes(data)
        paths = [tmp_path / f"server.{file}" for file in ("certificate", "key", "trusted")]
        threading.Thread(target=serve, args=(server_context(*paths),), daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    listener.close()


def test_who_has_been_answered_lately_is_connected(enrolled: Enrolled) -> None:
    assert last_seen(enrolled.home) is None
    enrolled.home.hub_contact_path.write_text(json.dumps({"seen": time.time() - 30}))
    assert describe(enrolled.home, "hub.example:1") == "connected to the hub at hub.example:1"
    enrolled.home.hub_contact_path.write_text(json.dumps({"seen": time.time() - 60}))
    assert describe(enrolled.home, "127.0.0.1:1").startswith("waiting for the hub at 127.0.0.1:1: ")


def test_clocks_that_differ_are_told_and_named_when_the_hub_refuses(enrolled: Enrolled) -> None:
    contact = HubContact(enrolled.home.hub_contact_path)
    contact.answered(refused=False, date=formatdate(time.time() - 87, usegmt=True))
    assert "is 87 s ahead of the hub's: set both" in describe(enrolled.home, "hub:1").replace("88 s", "87 s")
    contact = HubContact(enrolled.home.hub_contact_path)
    contact.answered(refused=True, date=formatdate(time.time() + 400, usegmt=True))
    line = describe(enrolled.home, "hub:1")
    assert "behind the hub's: set the clocks" in line
    assert "revoked" not in line
    contact = HubContact(enrolled.home.hub_contact_path)
    contact.answered(refused=False, date="no date")
    assert describe(enrolled.home, "hub:1") == "connected to the hub at hub:1"


def test_a_node_that_no_longer_calls_the_hub_hangs_unless_it_holds_a_message(enrolled: Enrolled) -> None:
    home = enrolled.home
    assert hung_for(home) is None
    HubContact(home.hub_contact_path).turn()
    assert hung_for(home) is None
    home.hub_contact_path.write_text(json.dumps({"turn": time.time() - 1000, "seen": time.time()}))
    assert 999 < hung_for(home) < 1100
    HubContact(home.hub_contact_path).turn(3600)
    assert hung_for(home) is None
    for damaged in ("", "[]", '{"turn": "x"}', "[" * 5000):
        home.hub_contact_path.write_text(damaged)
        assert hung_for(home) is None


def test_who_was_turned_away_is_told_so(enrolled: Enrolled) -> None:
    enrolled.home.hub_contact_path.write_text(json.dumps({"refused": time.time() - 60}))
    assert "it refuses this institution" in describe(enrolled.home, "127.0.0.1:1")


def test_nobody_there_is_said_as_such(enrolled: Enrolled) -> None:
    assert describe(enrolled.home, "127.0.0.1:1").endswith("connection refused")
    assert describe(enrolled.home, "no-such-host.invalid:1").endswith("no such host name")


def test_a_hub_that_is_up_is_told_from_one_that_is_not_ours(
    enrolled: Enrolled, listen: Callable[..., str], tmp_path: Path
) -> None:
    assert "it is up" in describe(enrolled.home, listen(enrolled.authority))
    other = Authority.create(tmp_path / "other", "other")
    assert "certificate is not accepted here" in describe(enrolled.home, listen(other))
    assert "certificate is not accepted here" in describe(enrolled.home, listen(enrolled.authority, name="127.0.0.2"))
    refused = describe(enrolled.home, listen(enrolled.authority, trusted=other))
    assert "it refuses this institution" in refused

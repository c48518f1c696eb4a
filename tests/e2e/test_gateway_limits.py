"""What a stranger, or one member, does to the gateway's port costs the others nothing."""

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node

from client.institution.directory import InstitutionDirectory
from tests.e2e.deployed import Hub, command, until
from tests.e2e.test_door import home, member, node, pull, request_of

UNKNOWN_NODE = 401
"""Status of a call for a node id that is not the caller's. The gateway has let it through."""

NAMES = iter(("mallet", "mordred"))


@pytest.fixture
def mallory(hub: Hub) -> Iterator[InstitutionDirectory]:
    """A member with a name of its own in each test, for one hub serves all tests."""
    name = next(NAMES)
    hub.enrol(name)
    yield home(hub, name)
    if name in hub.home.members():
        command("fedfin-hub", "revoke", name, "--home", hub.directory)
    del hub.institutions[name]


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def half_a_request(hub: Hub, name: str) -> bytes:
    """The beginning of a call with the node key that the institution is enrolled with."""
    key = base64.b64encode(hub.home.members()[name].request.node_key.encode()).decode()
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: hub\r\nflwr-public-key: {key}\r\nContent-Length: 1000\r\n\r\n"
    return head.encode() + b"half"


def secured(hub: Hub, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", hub.wiretap.upstream), timeout=20)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_many_idle_connections_keep_no_member_out_and_fill_no_log(hub: Hub) -> None:
    log = hub.home.state / "logs" / "gateway.log"
    before = log.stat().st_size
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(socket.create_connection(("127.0.0.1", hub.wiretap.upstream), timeout=20))
        time.sleep(2)  # by then it has taken or closed all of them
        files = Path(f"/proc/{hub.pid('gateway')}/fd")
        until(lambda: len(list(files.iterdir())) < 200, "the gateway keeps a few of them", within=5)
        begun = time.monotonic()
        assert pull(hub, home(hub, "north").tls, home(hub, "north").node_key_path) == UNKNOWN_NODE
        assert time.monotonic() - begun < 10
    time.sleep(1)
    assert log.stat().st_size - before < 20_000


def test_a_revoked_member_holds_no_connection(hub: Hub, mallory: InstitutionDirectory) -> None:
    context = member(hub, mallory.directory.name)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(secured(hub, context)) for _ in range(10)]
        for connection in held:
            connection.sendall(half_a_request(hub, mallory.directory.name))
        command("fedfin-hub", "revoke", mallory.directory.name, "--home", hub.directory)
        until(lambda: all(map(is_closed, held)), "half-finished requests of a revoked member are closed", within=5)
        with secured(hub, context) as again:
            assert again.recv(4096).startswith(b"HTTP/1.1 401")


def test_an_older_certificate_stays_out_after_a_new_enrolment(hub: Hub, mallory: InstitutionDirectory) -> None:
    old = member(hub, mallory.directory.name)
    command("fedfin-hub", "certs", "--rotate", mallory.directory.name, "--home", hub.directory)
    command("fedfin-hub", "revoke", mallory.directory.name, "--home", hub.directory)
    command("fedfin-institution", "init", "--home", mallory.directory, "--name", mallory.directory.name, "--renew")
    given = (mallory.request_path, "--fingerprint", request_of(mallory), "--home", hub.directory)
    command("fedfin-hub", "approve", *given)
    with secured(hub, old) as refused:
        refused.sendall(half_a_request(hub, mallory.directory.name))
        assert refused.recv(4096).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(("ahead_s", "reason"), [(250, None), (-250, None), (400, "clock"), (-400, "clock")])
def test_a_clock_may_differ_by_five_minutes_and_the_reason_is_said_beyond(
    hub: Hub, ahead_s: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = timedelta(seconds=ahead_s)
    monkeypatch.setattr("flwr.supernode.node_auth_http_interceptor.now", lambda: datetime.now(UTC) + shifted)
    north = home(hub, "north")
    with node(hub, north.tls, north.node_key_path) as client, pytest.raises(httpx.HTTPStatusError) as error:
        client.PullMessages(PullMessagesRequest(node=Node(node_id=1)))
    assert error.value.response.headers.get("fedfin-refused") == reason
    assert "date" in error.value.response.headers

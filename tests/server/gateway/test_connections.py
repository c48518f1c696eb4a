"""Connections of the gateway, with real TLS: idle, slow, half-finished and revoked ones cost nobody else a place."""

import contextlib
import socket
import time
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.identity.authority import new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.identity.tls import client_context
from common.processes.logs import RateLimit
from server.gateway import connections, gateway
from server.gateway.connections import Limit
from server.gateway.doorkeeper import Doorkeeper
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve, revoke
from tests.server.gateway.served import Served, until


class Member:
    """An enrolled institution: its TLS files and the header with its node key."""

    def __init__(self, home: HubDirectory, directory: Path, name: str) -> None:
        key, csr = new_key_and_request(name)
        node = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())
        package, _ = approve(home, EnrolmentRequest.make(PrivateKeys.generate(name), csr, node))
        directory.mkdir()
        (directory / "client.pem").write_text(package.certificate)
        (directory / "client.key").write_bytes(key)
        self.context = client_context(directory / "client.pem", directory / "client.key", home.authority_certificate)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    connection.settimeout(0.01)
    try:
        return connection.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.fixture
def north(served: Served, tmp_path: Path) -> Member:
    return Member(served.home, tmp_path / "north", "north")


@pytest.fixture
def west(served: Served, tmp_path: Path) -> Member:
    return Member(served.home, tmp_path / "west", "west")


def test_idle_connections_without_a_certificate_keep_nobody_out(
    served: Served, north: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(served.plain()) for _ in range(200)]
        until(lambda: sum(map(is_closed, idle)) >= 200 - connections.HANDSHAKES_BY_ADDRESS)
        assert served.entrance.by_address.count() <= connections.HANDSHAKES_BY_ADDRESS
        assert served.status(north) == 200


def test_a_handshake_has_a_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_WITHIN_S", 0.3)
    with served.plain() as connection:
        until(lambda: is_closed(connection), within=3)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/fleet/pull-mess"])
def test_the_head_of_a_request_has_a_deadline(
    served: Served, north: Member, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.3)
    with served.secured(north) as connection:
        connection.sendall(sent)
        until(lambda: is_closed(connection), within=3)


def test_a_whole_request_has_a_deadline(served: Served, north: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_REQUEST_WITHIN_S", 0.5)
    with served.secured(north) as connection:
        connection.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < 3:  # a byte now and then makes no difference
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - begun < 3
        assert is_closed(connection)
    assert served.status(north) == 200


def test_a_connection_lives_on_between_requests(served: Served, north: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.3)
    request = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
    with served.secured(north) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = b""
            while b"fine" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.6)


def test_a_revoked_certificate_gets_401_at_once_and_holds_nothing(served: Served, north: Member, west: Member) -> None:
    with served.secured(west) as held:
        held.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf")
        revoke(served.home, "west")
        until(lambda: is_closed(held), within=3)
    assert served.status(west) == 401
    with contextlib.ExitStack() as stack:
        refused = [stack.enter_context(served.secured(west)) for _ in range(40)]
        for connection in refused[-3:]:  # it sends nothing and is answered all the same
            assert connection.recv(4096).startswith(b"HTTP/1.1 401")
        assert served.status(north) == 200
        until(lambda: all(map(is_closed, refused)), within=5)
    until(lambda: served.entrance.by_certificate.count() == 0)


def test_one_certificate_pushes_out_its_own_connections_alone(served: Served, north: Member, west: Member) -> None:
    with contextlib.ExitStack() as stack:
        calm = stack.enter_context(served.secured(north))
        greedy = [stack.enter_context(served.secured(west)) for _ in range(connections.BY_CERTIFICATE + 10)]
        until(lambda: sum(map(is_closed, greedy)) == 10)
        assert not is_closed(calm)


def test_an_older_certificate_of_a_name_pushes_out_none_of_the_new_ones(
    served: Served, west: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(served.home, "west")
    monkeypatch.setattr(connections, "_LINGER_S", 30.0)
    monkeypatch.setattr(gateway, "_LOOK_EVERY_S", 30.0)
    time.sleep(0.3)  # the look that is under way
    again = Member(served.home, tmp_path / "again", "west")
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(served.secured(again))
        for _ in range(connections.BY_CERTIFICATE + 10):
            stack.enter_context(served.secured(west))
        until(lambda: served.entrance.by_certificate.count() == 1 + connections.BY_CERTIFICATE)
        assert not is_closed(good)
        assert served.status(again) == 200


def test_a_fault_of_one_look_at_the_revocations_does_not_end_the_looks(
    served: Served, north: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    look = served.entrance.close_objectionable

    def close_objectionable() -> None:
        looks.append(None)
        if len(looks) == 1:
            raise ValueError
        look()

    with served.secured(north) as held:
        monkeypatch.setattr(served.entrance, "close_objectionable", close_objectionable)
        until(lambda: len(looks) > 0)
        revoke(served.home, "north")
        until(lambda: is_closed(held), within=3)


def test_a_request_that_comes_with_the_end_of_the_handshake_is_not_lost(served: Served, north: Member) -> None:
    for _ in range(20):
        assert served.status(north) == 200


def test_a_fault_of_the_hub_is_503(served: Served, north: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(Doorkeeper, "objection", fails)
    assert served.status(north) == 503


def test_the_oldest_of_too_many_is_closed() -> None:
    limit = Limit(2)
    closed: list[int] = []
    for number in range(4):
        limit.add("a", number, partial(closed.append, number))
    limit.add("b", 9, lambda: closed.append(9))
    assert closed == [0, 1]
    assert limit.count() == 3
    limit.remove("a", 2)
    limit.remove("a", 2)
    assert limit.count() == 2


def test_a_flood_of_log_lines_is_cut_and_counted() -> None:
    import logging

    now = 0.0
    limit = RateLimit(lambda: now)
    record = logging.LogRecord("x", logging.INFO, "", 0, "line %d", (1,), None)
    assert sum(limit.filter(record) for _ in range(1000)) == 50
    now = 10.0
    assert limit.filter(record)
    assert record.getMessage() == "line 1 (950 earlier lines were left out)"

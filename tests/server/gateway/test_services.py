"""A started hub has three processes. Two of them listen on loopback alone, and no command line holds a secret."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ServiceError
from common.processes.ports import free_port
from server.gateway.services import prepare_services
from server.hub.directory import ENVIRONMENT, HubDirectory


@pytest.fixture
def home(tmp_path: Path) -> HubDirectory:
    return HubDirectory.create(tmp_path / "hub", "hub", f"127.0.0.1:{free_port()}", [])


def test_superlink_superexec_and_gateway_are_prepared_in_this_order(home: HubDirectory) -> None:
    services = prepare_services(home)
    assert [service.name for service in services] == ["superlink", "superexec", "gateway"]
    superlink, superexec, gateway = (service.command for service in services)
    upstream = home.superlink_address()
    assert upstream.startswith("127.0.0.1:")
    for part, command in (("superlink", superlink), ("superexec", superexec)):
        assert command[-3:] == (part, str(home.directory), upstream.partition(":")[2])
    assert gateway[gateway.index("--upstream") + 1] == upstream
    for service in services:
        assert service.environment[ENVIRONMENT] == str(home.directory)
        assert service.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert not service.directory.joinpath("server").exists()


def test_the_secret_is_a_file_of_the_owner_and_new_at_every_start(home: HubDirectory) -> None:
    secrets, keys = [], []
    for _ in range(2):
        commands = [part for service in prepare_services(home) for part in service.command]
        path = home.state / "superexec.secret"
        assert path.stat().st_mode & 0o077 == 0
        secrets.append(path.read_text())
        assert len(secrets[-1]) == 64
        assert not any(secrets[-1] in part for part in commands)
        assert (home.state / "loopback.key").stat().st_mode & 0o077 == 0
        keys.append((home.state / "loopback.key").read_bytes())
    assert secrets[0] != secrets[1]
    assert keys[0] != keys[1]


@pytest.fixture
def taken(home: HubDirectory) -> Iterator[int]:
    port = int(home.settings().gateway.listen.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        yield port


def test_a_gateway_port_in_use_is_one_line(home: HubDirectory, taken: int) -> None:
    with pytest.raises(
        ServiceError, match=rf"gateway\.listen: 127\.0\.0\.1:{taken} cannot be used .*: stop the process"
    ):
        prepare_services(home)

"""A gateway in front of a SuperLink that answers everything with 200."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.processes.ports import free_port
from server.gateway import gateway
from server.gateway.doorkeeper import Doorkeeper
from server.hub.directory import HubDirectory
from tests.server.gateway.served import Served


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(gateway, "_LOOK_EVERY_S", 0.1)
    # The node key has a test of its own. Here every certificate that may pass gets through to the SuperLink.
    monkeypatch.setattr(Doorkeeper, "objection", lambda self, peer, _: self.objection_to(peer))
    made = Served(HubDirectory.create(tmp_path / "hub", "hub", f"127.0.0.1:{free_port()}", []))
    made.start()
    yield made
    made.stop()

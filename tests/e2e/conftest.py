"""One federation of a hub and three institutions for all of these tests. `make e2e` runs them, `make test` does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployed import Hub, until
from tests.e2e.disk import Disk

HERE = Path(__file__).parent
BANKS = ("north", "south", "west")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("soak") is None:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def _disk(_root: Path) -> Iterator[Disk | None]:
    disk = Disk.mount(_root / "hub")
    yield disk
    if disk is not None:
        disk.unmount()


@pytest.fixture(scope="session")
def _started(_root: Path, _disk: Disk | None) -> Iterator[Hub]:
    hub = Hub.create(_root)
    try:
        for name in BANKS:
            hub.enrol(name)
        hub.start()
        hub.start_institutions()
        yield hub
    finally:
        hub.stop()


@pytest.fixture
def hub(_started: Hub) -> Hub:
    """The federation, with everything up and the three institutions connected, whatever a test did to it before."""
    until(_started.is_up, "the hub is up again")
    for name in BANKS:
        if _started.institutions[name].started.process is None:
            _started.institutions[name].started.start()
    _started.await_connected(*BANKS)
    return _started


@pytest.fixture
def disk(_disk: Disk | None) -> Disk:
    """The disk of the hub's directory."""
    if _disk is None:
        pytest.skip("a file system that can be filled needs root and the right to mount one")
    return _disk

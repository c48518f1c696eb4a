"""Every room of the hub, and the simulation, has a face: a purpose, at most ten names, and nothing heavy before use."""

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = [
    "server.flower",
    "server.gateway",
    "server.hub",
    "server.report",
    "server.results",
    "server.rounds",
    "server.runs",
    "simulation",
]


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_states_its_purpose_and_at_most_ten_names_that_exist(name: str) -> None:
    room = import_module(name)
    assert room.__doc__
    assert len(room.__doc__.split()) > 20
    assert 0 < len(room.__all__) <= 10
    assert room.__all__ == sorted(room.__all__)
    for each in room.__all__:
        assert getattr(room, each) is not None
    with pytest.raises(AttributeError):
        _ = room.no_such_name


def test_importing_the_rooms_loads_neither_torch_nor_flower() -> None:
    code = f"import sys, {', '.join(ROOMS)}; sys.exit(bool({{'torch', 'flwr', 'transformers'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

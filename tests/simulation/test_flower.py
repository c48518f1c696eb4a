"""Flower's simulation engine carries the same run."""

import os
from pathlib import Path

import pytest

from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation

pytestmark = pytest.mark.filterwarnings("ignore")


def test_both_engines_end_in_the_same_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    config = write_simulation(tmp_path, noise="fixed")
    in_process = run_simulation(Workspace.create(config, tmp_path / "plain"))
    flower = run_simulation(Workspace.create(config, tmp_path / "flower"), engine="flower")
    assert flower.adapter_digest == in_process.adapter_digest
    assert flower.epsilon == in_process.epsilon

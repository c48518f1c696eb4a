"""Flower's processes report nothing, install nothing and find Flower's programs, on the hub and at institutions."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.flower.environment import QUIET, flower_environment


def test_flower_is_quiet_installs_nothing_and_finds_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", raising=False)
    made = flower_environment(tmp_path, 0.2)
    assert made["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert made["FLWR_HOME"] == str(tmp_path)
    assert made["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] == "0.2"
    assert made["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert QUIET.items() <= made.items()


def test_an_operator_may_choose_another_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "3")
    assert flower_environment(tmp_path, 0.2)["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] == "3"


def test_the_command_lines_do_not_load_flower_for_it() -> None:
    code = "import sys, common.cli, common.flower.environment; sys.exit('flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Run directories of an earlier release are reported, and resuming one with old option names ends in one line."""

import shutil
from pathlib import Path

import pytest

from server.report.report import write_report
from server.report.run_files import load_run
from server.rounds import checkpoint
from simulation.cli import main

EARLIER = Path(__file__).parent.parent.parent / "earlier"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    return tmp_path / "federated"


def test_every_file_is_read_as_a_record(run: Path) -> None:
    files = load_run(run)
    assert set(files.statements) == {"north", "south"}
    assert files.largest_epsilon == max(value for value in files.result.epsilon.values() if value is not None)
    assert [record.contributed for record in files.rounds] == [("north", "south")]
    assert files.rounds[0].outcomes == {"north": "contributed", "south": "contributed"}
    assert not files.without_privacy
    text = write_report(run).read_text()
    assert "Privacy statements" in text
    assert "B trained, A frozen" in text


def test_the_checkpoint_is_read(run: Path) -> None:
    state = checkpoint.load(run / "checkpoint")
    assert state.next_round == 2
    assert state.history[0].adapter_digest == state.adapter_digest


def test_resuming_it_is_one_line_that_names_the_new_option(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(run)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "config.toml" in line
    assert "privacy.level is not a known key: use mode" in line

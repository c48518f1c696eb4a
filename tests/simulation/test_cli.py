"""A mistake in the configuration or the rows is told before torch is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from simulation import cli
from tests.simulation.helpers import write_simulation

HEAVY = ("torch", "transformers", "flwr", "peft", "opacus")
PROGRAM = (
    "import sys\n"
    "from simulation.cli import main\n"
    "code = main(sys.argv[1:])\n"
    f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
    "sys.exit(code)\n"
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("run.rounds=0", "rounds"),
        ("training.steps=3", "training.steps is not a known key"),
        ('data.label_column="labl"', 'column "labl" is missing'),
        ('data.train="absent.csv"', "absent.csv"),
        ('task.labels=["up", "down"]', "label"),
    ],
)
def test_a_mistake_is_told_before_torch_is_loaded(tmp_path: Path, change: str, words: str) -> None:
    config = write_simulation(tmp_path)
    command = [sys.executable, "-c", PROGRAM, "run", str(config), "--out", str(tmp_path / "out"), "--set", change]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (2, "")
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_directory_in_use_is_refused_before_the_rows_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_simulation(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "rows.csv").unlink()
    assert cli.main(["run", str(config), "--out", str(tmp_path / "out")]) == 2
    assert "the output directory is not empty" in capsys.readouterr().err

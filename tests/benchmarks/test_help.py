"""`--help` of a benchmark explains it, and is never taken for the name of a file to write."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = ("beige_summaries", "instructions", "trivial_baselines", "tuning_split", "two_rules")


def test_every_script_that_reads_its_arguments_reads_them_with_argparse() -> None:
    read = {
        path.stem for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py") if "argv[1]" in path.read_text()
    }
    assert read == set()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_the_command_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

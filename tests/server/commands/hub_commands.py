"""Run one command of `fedfin-hub` through a parser that knows this command alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from common import cli


def run(add: cli.Add, *arguments: object) -> int:
    """Run the command that `add` adds, and return its exit code."""
    parser = cli.build_parser("fedfin-hub", "one command", "init --home hub", (add,))
    return cli.main(parser, [str(argument) for argument in arguments], "interrupted")


def printed(capsys: pytest.CaptureFixture[str], add: cli.Add, *arguments: object) -> str:
    """Run a command that must succeed, and return its standard output."""
    capsys.readouterr()
    code = run(add, *arguments)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def json_of(capsys: pytest.CaptureFixture[str], add: cli.Add, *arguments: object) -> dict[str, Any]:
    """Run a command that must succeed with `--json`, and return the object on its last line."""
    value: dict[str, Any] = json.loads(printed(capsys, add, *arguments, "--json").splitlines()[-1])
    return value


def refusal(capsys: pytest.CaptureFixture[str], add: cli.Add, *arguments: object) -> str:
    """Run a command that must end in exit code 2 with one line and without output, and return the line."""
    capsys.readouterr()
    assert run(add, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fedfin-hub: ")
    assert err.count("\n") == 1
    return err


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below `directory` with its bytes, to see that a command wrote nothing.

    `state/` is left out: it holds locks and sockets of running processes, no data.
    """
    files = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith("state/")}

"""Run commands of `fedfin-institution` through a parser that knows these commands alone."""

from collections.abc import Callable

import pytest

from common import cli


def command_line(*adders: cli.Add) -> Callable[[list[str]], int]:
    """Return a function that runs one of the commands that `adders` add and returns its exit code."""
    parser = cli.build_parser("fedfin-institution", "some commands", "init --home bank --name bank", adders)
    return lambda arguments: cli.main(parser, arguments, "interrupted")


def refusal(capsys: pytest.CaptureFixture[str], add: cli.Add, *arguments: object) -> str:
    """Run a command that must end in exit code 2 with one line and without output, and return the line."""
    capsys.readouterr()
    assert command_line(add)([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fedfin-institution: ")
    assert err.count("\n") == 1
    return err


def printed(capsys: pytest.CaptureFixture[str], add: cli.Add, *arguments: object) -> str:
    """Run a command that must succeed, and return its standard output."""
    capsys.readouterr()
    assert command_line(add)([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out

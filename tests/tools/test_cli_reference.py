"""`docs/cli.md` is generated from the parsers, and every command explains itself."""

import argparse
import shlex

import pytest

from tools import cli_reference
from tools.cli_reference import Command, commands, example, parameters

LEAVES = [command for command in commands() if "run" in command.parser._defaults]
"""Commands that do something. The others only hold subcommands."""

WITHOUT_EXAMPLE: set[str] = set()
"""Commands that still lack an example. May only shrink."""

WITHOUT_HELP: set[str] = set()
"""Arguments that still lack a help text, as "COMMAND ARGUMENT". May only shrink."""


def parser_of(name: str) -> argparse.ArgumentParser:
    return next(command.parser for command in commands() if command.name == name)


def test_the_page_is_what_the_parsers_give() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")
    assert page == cli_reference.reference(), "docs/cli.md is outdated: run `python -m tools.cli_reference`"


def test_the_page_depends_on_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = cli_reference.reference()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli_reference.reference() == wide


def test_every_subcommand_of_the_three_programs_has_a_section() -> None:
    names = [command.name for command in commands()]
    assert {"fedfin-hub", "fedfin-hub run", "fedfin-institution budget show", "fedfin-simulate demo"} <= set(names)
    headings = [line.lstrip("# ") for line in cli_reference.reference().splitlines() if line.startswith("##")]
    assert headings == names


@pytest.mark.parametrize("command", [c for c in commands() if c.name.count(" ")], ids=lambda c: c.name)
def test_every_subcommand_has_a_help_text(command: Command) -> None:
    assert command.text.strip()
    assert (command.parser.description or "").strip()


def test_every_command_has_an_example() -> None:
    lacking = {command.name for command in commands() if not example(command.parser)}
    assert lacking == WITHOUT_EXAMPLE, "add an example to the epilog, or take the command off the list"


def test_every_argument_has_a_help_text() -> None:
    lacking = {
        f"{command.name} {action.option_strings[-1] if action.option_strings else action.metavar or action.dest}"
        for command in commands()
        for action in parameters(command.parser)
        if not (action.help or "").strip()
    }
    assert lacking == WITHOUT_HELP, "add a help text, or take the argument off the list"


@pytest.mark.parametrize("command", LEAVES, ids=lambda command: command.name)
def test_every_example_is_one_that_its_own_parser_takes(command: Command) -> None:
    top = parser_of(command.name.split()[0])
    lines = [line for line in example(command.parser) if line.startswith("fedfin-")]
    assert lines or command.name in WITHOUT_EXAMPLE
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[: len(command.name.split())] == command.name.split()
        assert top.parse_args(words[1:]).run is command.parser._defaults["run"]


@pytest.mark.parametrize("command", LEAVES, ids=lambda command: command.name)
def test_every_subcommand_takes_json_as_the_page_says(command: Command) -> None:
    assert any("--json" in action.option_strings for action in command.parser._actions)


def test_an_argument_is_shown_with_its_spelling_meaning_and_default() -> None:
    parser = argparse.ArgumentParser(prog="p", epilog="examples:\n  p A\n  p B --rate 2")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of %(prog)s")
    parser.add_argument("--rate", type=float, default=0.5, help="share of rows")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="first number")
    parser.add_argument("--kind", choices=("a", "b"), required=True, help="which (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a change")
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    assert cli_reference._section(Command("p", "text", parser)).splitlines() == [
        "### p", "", "Text.", "", "```text", "p --kind a|b [options] [NAME]", "```", "",
        "Example:", "", "```bash", "p A", "p B --rate 2", "```", "",
        "Arguments:", "", "- `[NAME]`: of p", "",
        "Options:", "", "- `--rate RATE`: share of rows (default: `0.5`)", "- `--seed N`: first number (default: `0`)",
        "- `--kind a|b`: which (default: None) (required)", "- `--set K=V`: a change (may be repeated)",
    ]  # fmt: skip

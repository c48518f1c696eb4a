"""Write `docs/cli.md`, the reference of the three command lines, from their argument parsers.

    python -m tools.cli_reference

The page depends on the parsers alone: argparse formats nothing, so neither the width of the terminal nor the version
of Python changes it.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import client.cli
import server.cli
import simulation.cli

__all__ = ["PAGE", "Command", "commands", "example", "main", "parameters", "reference"]

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

_INTRODUCTION = """\
# Command line

Written by `python -m tools.cli_reference` from the argument parsers. A test compares this page with them.

Each command takes `--help`. Each subcommand also takes `--json`, which prints the result as one JSON object on the last
line. Each of the three programs takes `--version`. The exit code is 0 on success, 2 for bad input and 130 after Ctrl-C.
An error is one line on standard error.
"""

_PLAIN_GROUPS = {"positional arguments": "Arguments", "options": "Options"}
"""Titles that argparse gives to arguments without a group of their own, and ours."""

_COMMON = ("help", "version", "json")
"""Options that the introduction describes for all commands."""


@dataclass(frozen=True)
class Command:
    """One program or subcommand.

    Attributes:
        name: Words to type, such as "fedfin-hub run".
        text: One line that lists of commands show. Empty for a program.
        parser: Parser of its arguments.
    """

    name: str
    text: str
    parser: argparse.ArgumentParser


def commands() -> list[Command]:
    """Return the three programs, each followed by its subcommands in the order of its help."""
    programs = (server.cli.parser(), client.cli.parser(), simulation.cli.parser())
    return [command for parser in programs for command in _tree(Command(parser.prog, "", parser))]


def reference() -> str:
    """Return the text of `docs/cli.md`."""
    return "\n".join([_INTRODUCTION, *map(_section, commands())])


def parameters(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a command, without subcommands, hidden options and the options of every command."""
    return [
        a
        for a in parser._actions
        if a.dest not in _COMMON and a.nargs != argparse.PARSER and a.help != argparse.SUPPRESS
    ]


def example(parser: argparse.ArgumentParser) -> list[str]:
    """Return the lines to type of a command's example, which its epilog holds. Empty if it has none."""
    lines = [line.strip() for line in (parser.epilog or "").splitlines()]
    found = [line.removeprefix("examples:").removeprefix("example:").strip() for line in lines]
    return [line for line in found if line]


def main() -> int:
    """Write the page. Return the exit code."""
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
    return 0


def _tree(command: Command) -> Iterator[Command]:
    yield command
    for sub in _children(command):
        yield from _tree(sub)


def _children(command: Command) -> Iterator[Command]:
    for action in command.parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, parser in action.choices.items():
                yield Command(f"{command.name} {name}", texts.get(name, ""), parser)


def _section(command: Command) -> str:
    """Return the part of the page about one command: purpose, usage, example, arguments."""
    parser, children = command.parser, list(_children(command))
    parts = [f"{'###' if command.text else '##'} {command.name}"]
    if text := (parser.description or command.text).strip():
        parts.append(_sentence(text))
    parts.append(f"```text\n{_usage(command)}\n```")
    if lines := example(parser):
        parts.append("Example:\n\n```bash\n" + "\n".join(lines) + "\n```")
    if children:
        rows = [f"| [`{sub.name}`](#{sub.name.replace(' ', '-')}) | {_cell(_expanded(sub.text))} |" for sub in children]
        parts.append("\n".join(["| command | purpose |", "|---|---|", *rows]))
    shown = parameters(parser)
    for group in parser._action_groups:
        if entries := [_entry(parser, action) for action in group._group_actions if action in shown]:
            title = _PLAIN_GROUPS.get(group.title or "", _capital(group.title or ""))
            parts.append("\n".join([f"{title}:", "", *entries]))
    return "\n\n".join(parts) + "\n"


def _usage(command: Command) -> str:
    """Return one line: the command, its required options, `[options]`, its positional arguments, its subcommands."""
    shown, every = parameters(command.parser), command.parser._actions
    required = [_spelled(action) for action in shown if action.option_strings and action.required]
    optional = ["[options]"] if any(a.option_strings and not a.required for a in every) else []
    positional = [_spelled(action) for action in shown if not action.option_strings]
    subcommand = [str(action.metavar) for action in every if action.nargs == argparse.PARSER]
    return " ".join([command.name, *required, *optional, *positional, *subcommand])


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the list item of one argument: how it is spelled, its meaning, its default."""
    text = _expanded(action.help or "", parser, action)
    notes = []
    if action.required and action.option_strings:
        notes.append("required")
    if isinstance(action, argparse._AppendAction) and not re.search("again|repeat", text):
        notes.append("may be repeated")
    if action.choices is not None and action.metavar is not None:
        notes.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    if _has_default(action) and "default" not in text.lower():
        notes.append(f"default: `{action.default}`")
    return f"- `{_spelled(action)}`" + (f": {text}" if text else "") + (f" ({', '.join(notes)})" if notes else "")


def _spelled(action: argparse.Action) -> str:
    """Return an argument as it is typed, such as "--name RUN" or "[DIR]"."""
    value = _value(action)
    if action.option_strings:
        option = action.option_strings[-1]
        return option if action.nargs == 0 else f"{option} {value}"
    return f"[{value}]" if action.nargs in ("?", "*") else value


def _value(action: argparse.Action) -> str:
    name = action.metavar
    if name is None:
        name = "|".join(map(str, action.choices)) if action.choices is not None else action.dest.upper()
    shown = name if isinstance(name, str) else " ".join(name)
    return f"{shown} ..." if action.nargs in ("+", "*") else shown


def _has_default(action: argparse.Action) -> bool:
    unset = action.default is None or action.default in (argparse.SUPPRESS, [], ())
    return action.nargs != 0 and not unset


def _expanded(text: str, parser: argparse.ArgumentParser | None = None, action: argparse.Action | None = None) -> str:
    """Return a help text with its `%(default)s` and the like replaced, as argparse does."""
    values = {} if action is None else dict(vars(action))
    if parser is not None:
        values["prog"] = parser.prog
    return " ".join((text % values).split())


def _sentence(text: str) -> str:
    text = _capital(" ".join(text.split()))
    return text if text.endswith((".", ":", "?")) else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())

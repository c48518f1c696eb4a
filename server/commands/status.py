"""`fedfin-hub status`: running services, connected institutions, current rounds."""

import argparse
from typing import Any

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`status`."""
    text = "show running services, connected institutions and the state of each run"
    parser = cli.subcommand(commands, "status", _status, text, "status --home /srv/fedfin-hub --json")
    add_home(parser)


def _status(given: argparse.Namespace) -> int:
    from server.runs.status import status

    found = status(open_home(given))
    if given.json:
        cli.print_json(found)
    else:
        _show(found)
    return 0


def _show(found: dict[str, Any]) -> None:
    print(f"hub:          {'started' if found['started'] else 'not started'} ({found['hub']})")
    for entry in found["services"]:
        restarts = f", restarted {entry['restarts']} times" if entry["restarts"] else ""
        print(f"  {entry['name']:12}{'up' if entry['up'] else 'down'}{restarts}")
    print(f"institutions: {len(found['institutions'])}")
    for entry in found["institutions"]:
        print(f"  {entry['name']:24}{entry['state']}")
    print(f"runs:         {len(found['runs'])}")
    for run in found["runs"]:
        waiting = f", waiting for {', '.join(run['waiting'])}" if run["waiting"] else ""
        print(f"  {run['run']:40}{run['state']}, round {run['round']} of {run['rounds']}{waiting}")

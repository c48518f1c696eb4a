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


def _status(args: argparse.Namespace) -> int:
    from server.runs.status import status

    state = status(open_home(args))
    if args.json:
        cli.print_json(state)
    else:
        _show(state)
    return 0


def _show(state: dict[str, Any]) -> None:
    from server.hub.clocks import WARN_S

    print(f"hub:          {'started' if state['started'] else 'not started'} ({state['hub']})")
    for entry in state["services"]:
        restarts = f", restarted {entry['restarts']} times" if entry["restarts"] else ""
        print(f"  {entry['name']:12}{'up' if entry['up'] else 'down'}{restarts}")
    disk = state["disk"]
    print(f"disk:         {disk['free_bytes'] / 1e9:.1f} GB free{'' if disk['state'] == 'enough' else ': make room'}")
    print(f"institutions: {len(state['institutions'])}")
    for entry in state["institutions"]:
        ahead = entry["clock_ahead_s"] or 0.0
        clock = f", its clock is {ahead:+.0f} s off the hub's" if abs(ahead) > WARN_S else ""
        print(f"  {entry['name']:24}{entry['state']}{clock}")
    print(f"runs:         {len(state['runs'])}")
    for run in state["runs"]:
        waiting = f", waiting for {', '.join(run['waiting'])}" if run["waiting"] else ""
        print(f"  {run['run']:40}{run['state']}, round {run['round']} of {run['rounds']}{waiting}")

"""`fedfin-hub institutions`: who is enrolled."""

import argparse
from typing import Any

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`institutions`."""
    text = "list who is enrolled, who is connected, and until when their certificates last"
    parser = cli.subcommand(commands, "institutions", _institutions, text, "institutions --home /srv/fedfin-hub")
    add_home(parser)


def _institutions(given: argparse.Namespace) -> int:
    from server.runs.status import institutions

    found = institutions(open_home(given))
    if given.json:
        cli.print_json({"institutions": found})
        return 0
    _show(found)
    return 0


def _show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        print("nobody is enrolled yet: fedfin-hub approve REQUEST")
        return
    table = Table()
    table.add_column("institution", overflow="fold")
    for column in ("state", "certificate until", "keys", "counts up to"):
        table.add_column(column, no_wrap=True)
    for entry in found:
        counted = f"{entry['approved_units']:,}"
        row = (entry["name"], entry["state"], entry["certificate_until"][:10], entry["fingerprint"][:16], counted)
        table.add_row(*row)
    Console().print(table)

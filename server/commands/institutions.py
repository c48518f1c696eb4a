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


def _institutions(args: argparse.Namespace) -> int:
    from server.runs.status import institutions

    rows = institutions(open_home(args))
    if args.json:
        cli.print_json({"institutions": rows})
        return 0
    _show(rows)
    return 0


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print("nobody is enrolled yet: fedfin-hub approve REQUEST")
        return
    table = Table()
    table.add_column("institution", overflow="fold")
    for column in ("state", "certificate until", "keys", "counts up to"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        counted = f"{row['approved_units']:,}"
        cells = (row["name"], row["state"], row["certificate_until"][:10], row["fingerprint"][:16], counted)
        table.add_row(*cells)
    Console().print(table)

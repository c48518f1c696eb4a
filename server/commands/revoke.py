"""`fedfin-hub revoke NAME`: shut an institution out at once."""

import argparse

from common import command
from server.commands.options import add_hub, open_hub

__all__ = ["add"]


def add(commands: command.Commands) -> None:
    """`revoke`."""
    text = "shut an institution out at once; to come back it needs new keys and a new request"
    parser = command.subcommand(commands, "revoke", _revoke, text, "revoke bank-one")
    parser.add_argument("name", metavar="NAME")
    add_hub(parser)


def _revoke(given: argparse.Namespace) -> int:
    from server.enrol import revoke

    revoke(open_hub(given), given.name)
    if given.json:
        command.print_json({"revoked": given.name})
    else:
        print(f"{given.name} is revoked")
    return 0

"""`fedfin-hub revoke NAME`: shut an institution out at once."""

import argparse

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`revoke`."""
    text = "shut an institution out at once (to return, it needs new keys and a new request)"
    parser = cli.subcommand(commands, "revoke", _revoke, text, "revoke bank-one")
    parser.add_argument("name", metavar="NAME", help="an enrolled institution")
    add_home(parser)
    cli.add_passphrase(parser)


def _revoke(args: argparse.Namespace) -> int:
    from server.hub.enrolment import revoke

    revoke(open_home(args), args.name)
    if args.json:
        cli.print_json({"revoked": args.name})
    else:
        print(f"{args.name} is revoked")
    return 0

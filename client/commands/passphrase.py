"""fedfin-institution passphrase: encrypt the private keys, or change their passphrase."""

import argparse

from client.commands.options import add_home, open_home
from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`passphrase`."""
    text = "encrypt the private keys with a passphrase, or change it (a change needs no restart)"
    parser = cli.subcommand(commands, "passphrase", _run, text, "passphrase --home /srv/fedfin")
    cli.add_new_passphrase(parser)
    only = "change only the passphrase of the agent's keys, or of the node's. Default, and the first time: both"
    parser.add_argument("--only", choices=("agent", "node"), help=only)
    add_home(parser)
    cli.add_passphrase(parser)


def _run(args: argparse.Namespace) -> int:
    from client.institution.passphrase import set_passphrase
    from client.institution.paths import Slot

    slots = {None: tuple(Slot), "agent": (Slot.KEYS,), "node": (Slot.NODE,)}[args.only]
    home = open_home(args)
    set_passphrase(home, lambda: cli.changed_passphrase(args), slots)
    if args.json:
        cli.print_json({"institution": str(home.directory), "encrypted": True})
    else:
        print(f"{home.directory}: the private keys are encrypted with the new passphrase.")
        print(f"Back up {home.lock_path} with them: without it they cannot be decrypted.")
    return 0

"""`fedfin-hub passphrase`: encrypt the hub's private keys, or change their passphrase."""

import argparse

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`passphrase`."""
    text = "encrypt the hub's private keys with a passphrase, or change it (a change needs no restart)"
    parser = cli.subcommand(commands, "passphrase", _passphrase, text, "passphrase --home /srv/fedfin-hub")
    cli.add_new_passphrase(parser)
    add_home(parser)
    cli.add_passphrase(parser)


def _passphrase(args: argparse.Namespace) -> int:
    from server.hub.passphrase import set_passphrase

    home = open_home(args)
    set_passphrase(home, lambda: cli.changed_passphrase(args))
    if args.json:
        cli.print_json({"hub": str(home.directory), "encrypted": True})
    else:
        print(f"{home.directory}: the private keys are encrypted with the new passphrase.")
        print(f"Back up {home.lock_path} with them: without it they cannot be decrypted.")
    return 0

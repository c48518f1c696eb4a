"""`fedfin-hub init`: make a new hub."""

import argparse
from pathlib import Path

from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`init`."""
    text = "make a hub: certificate authority, server certificate, keys, a commented hub.toml"
    example = "init --home /srv/fedfin-hub --address hub.example.org:8443"
    parser = cli.subcommand(commands, "init", _init, text, example)
    parser.add_argument("--home", required=True, type=Path, metavar="DIR", help="a new or empty directory for the hub")
    parser.add_argument("--name", default="hub", help="the hub's name (default: hub)")
    address = "address that institutions connect to (default: this machine alone, 127.0.0.1:8443)"
    parser.add_argument("--address", default="127.0.0.1:8443", metavar="HOST:PORT", help=address)
    names = "another host name or IP address in the server certificate (subject alternative name), repeatable"
    parser.add_argument("--san", action="append", default=[], metavar="NAME", help=names)
    cli.add_encrypt(parser)


def _init(args: argparse.Namespace) -> int:
    from common.identity.enrolment import format_fingerprint
    from server.hub.audit_log import note
    from server.hub.directory import HubDirectory

    passphrase, token = cli.chosen_passphrase(args), cli.chosen_token(args)
    home = HubDirectory.create(args.home, args.name, args.address, args.san, passphrase, token)
    public = home.public_keys()
    note(home, "hub_created", {"hub": public.name, "keys": public.fingerprint})
    if args.json:
        cli.print_json({"hub": str(home.directory), "fingerprint": public.fingerprint})
        return 0
    print(f"hub {public.name} in {home.directory}: its keys are {format_fingerprint(public.fingerprint)}")
    print(f"settings: {home.settings_path}")
    print(f"next: fedfin-hub approve REQUEST --home {home.directory}, then fedfin-hub start --home {home.directory}")
    return 0

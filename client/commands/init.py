"""fedfin-institution init: keys of every kind, the request for the hub, and the settings to fill in."""

import argparse
from pathlib import Path

from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """Add `init`."""
    text = "make this institution's keys, its settings file and its request to the hub"
    init = cli.subcommand(commands, "init", _run, text, 'init --home /srv/fedfin --name "bank-a"')
    init.add_argument(
        "--home", required=True, type=Path, metavar="DIR", help="a new directory for keys, settings and ledger"
    )
    init.add_argument("--name", required=True, help="this institution's name at the hub and in reports")
    renew = "make new TLS and node keys and a new request in an existing directory (signing keys and ledger stay)"
    init.add_argument("--renew", action="store_true", help=renew)
    group = "group of the user that the node runs as, if agent and node are two users (default: one user)"
    init.add_argument("--node-group", metavar="GROUP", help=group)
    cli.add_encrypt(init)


def _run(args: argparse.Namespace) -> int:
    from client.institution.directory import InstitutionDirectory
    from client.institution.enrolment import make_request
    from common.errors import ConfigurationError
    from common.identity.enrolment import format_fingerprint

    if args.renew and args.token is not None:
        raise ConfigurationError(
            "--token: a key in a token is another identity: make it with `init` in a new directory"
        )
    if args.renew and args.encrypt:
        raise ConfigurationError("--encrypt: run `fedfin-institution passphrase` to encrypt the keys that are there")
    passphrase = None if args.renew else cli.chosen_passphrase(args)
    token = cli.chosen_token(args)
    request = make_request(args.home, args.name, args.renew, args.node_group, passphrase, token)
    home = InstitutionDirectory(args.home)
    if args.json:
        facts = {"name": args.name, "request": str(home.request_path), "fingerprint": request.fingerprint}
        cli.print_json(facts | {"settings": str(home.settings_path)})
        return 0
    print(f"{args.home}: keys made. They never leave this directory.")
    if token is not None:
        print(f"   The signing key is {token.key} in the token {token.label}, and nothing else can sign.")
    print(f"1. Name your rows, models and limits in {home.settings_path}")
    print(f"2. Send {home.request_path} to the hub's operator, and read this fingerprint to them by telephone:")
    print(f"   {format_fingerprint(request.fingerprint)}")
    print(f"3. With the package they send back: fedfin-institution join PACKAGE --home {args.home}")
    return 0

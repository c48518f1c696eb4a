"""fedfin-institution peers: the institutions that this one counts under secure aggregation."""

import argparse
import sys
from pathlib import Path

from client.commands.options import add_home, open_home
from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`peers add`, `peers list`, `peers remove`, `peers show`."""
    text = "the institutions that this one counts under secure aggregation, whomever the hub enrols"
    peers = commands.add_parser(
        "peers", help=text, description=text, epilog="example: fedfin-institution peers list --home bank"
    )
    actions = peers.add_subparsers(dest="action", required=True, metavar="ACTION")

    text = "approve the institution whose keys are in FILE"
    adding = cli.subcommand(actions, "add", _add, text, 'add bank-b.json --fingerprint "1f3a 90bc 77d0 4e12 ..."')
    adding.add_argument("file", type=Path, metavar="FILE", help="its keys/public.json, which `peers show` names there")
    words = "fingerprint of the keys, as the other institution reads it out over another channel"
    adding.add_argument("--fingerprint", metavar="HEX", help=words)
    add_home(adding)

    listing = cli.subcommand(actions, "list", _list, "the approved institutions with their fingerprints", "list")
    add_home(listing)

    removing = cli.subcommand(actions, "remove", _remove, "withdraw the approval of an institution", "remove bank-b")
    removing.add_argument("name", metavar="NAME", help="name of the institution")
    add_home(removing)

    text = "the file and the fingerprint with which the others approve this institution"
    add_home(cli.subcommand(actions, "show", _show, text, "show"))


def _add(args: argparse.Namespace) -> int:
    from client.institution.peers import add_peer
    from common.identity.enrolment import format_fingerprint
    from common.identity.keys import PublicKeys

    home = open_home(args)
    keys = PublicKeys.load(args.file)
    fingerprint = args.fingerprint
    if fingerprint is None and sys.stdin.isatty():
        print(f"The file says that these are the keys of {keys.name}, with the fingerprint")
        print(f"   {format_fingerprint(keys.fingerprint)}")
        fingerprint = input(f"Type what {keys.name} reads out: ")
    add_peer(home, keys, fingerprint)
    if args.json:
        cli.print_json({"peer": keys.name, "fingerprint": keys.fingerprint})
    else:
        print(f"{keys.name} is approved for secure aggregation, from the next session on.")
    return 0


def _list(args: argparse.Namespace) -> int:
    from client.institution.peers import read_peers
    from common.identity.enrolment import format_fingerprint

    found = read_peers(open_home(args))
    if args.json:
        cli.print_json({"peers": {name: keys.fingerprint for name, keys in found.items()}})
        return 0
    if not found:
        print("no institution is approved: no run with secure aggregation is answered")
    for name, keys in found.items():
        print(f"{name}: {format_fingerprint(keys.fingerprint)}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    from client.institution.peers import remove_peer

    remove_peer(open_home(args), args.name)
    if args.json:
        cli.print_json({"removed": args.name})
    else:
        print(f"{args.name} is not approved any more, from the next session on.")
    return 0


def _show(args: argparse.Namespace) -> int:
    from common.identity.enrolment import format_fingerprint

    home = open_home(args)
    keys, path = home.public_keys(), home.keys_path / "public.json"
    if args.json:
        cli.print_json({"name": keys.name, "file": str(path), "fingerprint": keys.fingerprint})
    else:
        print(f"hand over {path}")
        print(f"and read out: {format_fingerprint(keys.fingerprint)}")
    return 0

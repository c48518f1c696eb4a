"""fedfin-institution join: keep the hub's package, once its origin is certain."""

import argparse
import sys
from pathlib import Path

from client.commands.options import add_home, open_home
from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`join PACKAGE`."""
    text = "join the hub whose operator sent this package, or renew the certificate"
    example = 'join bank-a.package.json --fingerprint "1f3a 90bc 77d0 4e12 ..."'
    join = cli.subcommand(commands, "join", _run, text, example)
    join.add_argument("package", type=Path, metavar="PACKAGE", help="the file that the hub's operator sent")
    join.add_argument(
        "--fingerprint",
        metavar="HEX",
        help="the package's fingerprint, as the hub's operator reads it out by telephone",
    )
    add_home(join)
    cli.add_passphrase(join)


def _run(args: argparse.Namespace) -> int:
    from client.institution.enrolment import accept, is_known, read_package
    from common.identity.enrolment import format_fingerprint

    home = open_home(args)
    package = read_package(args.package)
    fingerprint = args.fingerprint
    if fingerprint is None and not is_known(home, package) and sys.stdin.isatty():
        print(f"The package says that it comes from {package.hub.name} at {package.address}. Its fingerprint is")
        print(f"   {format_fingerprint(package.fingerprint)}")
        fingerprint = input("Type what the hub's operator reads out: ")
    accept(home, package, fingerprint)
    if args.json:
        cli.print_json({"hub": package.hub.name, "address": package.address, "name": package.institution})
    else:
        print(f"{package.institution} has joined {package.hub.name} at {package.address}.")
        print(f"Next: fedfin-institution start --home {home.directory}")
    return 0

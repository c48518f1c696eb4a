"""`fedfin-hub certs`: list expiry dates, renew certificates."""

import argparse

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`certs`."""
    text = "list expiry dates, or renew a certificate (a running hub loads it without losing a run)"
    parser = cli.subcommand(commands, "certs", _certs, text, "certs --rotate server")
    rotation = "renew the certificate of the gateway (server) or of the institution NAME (repeatable)"
    parser.add_argument("--rotate", action="append", default=[], metavar="server|NAME", help=rotation)
    add_home(parser)
    cli.add_passphrase(parser)


def _certs(args: argparse.Namespace) -> int:
    from server.hub.enrolment import renew_institution, renew_server
    from server.runs.status import certificates

    home = open_home(args)
    packages = {}
    for name in args.rotate:
        if name == "server":
            renew_server(home)
        else:
            packages[name] = str(renew_institution(home, name)[1])
    rows = certificates(home)
    if args.json:
        cli.print_json({"certificates": rows, "packages": packages})
        return 0
    for row in rows:
        warning = {"valid": "", "soon": "  <- renew it", "expired": "  <- EXPIRED"}[row["state"]]
        print(f"{row['name']:24} {row['until'][:10]}  {row['days_left']:6.0f} days{warning}")
    for name, path in packages.items():
        print(f"hand {name} its new package, to `fedfin-institution join`: {path}")
    return 0

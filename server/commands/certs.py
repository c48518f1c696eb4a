"""`fedfin-hub certs`: list expiry dates, renew certificates."""

import argparse

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`certs`."""
    text = "list expiry dates, or renew a certificate (a running hub loads it without losing a run)"
    parser = cli.subcommand(commands, "certs", _certs, text, "certs --rotate server")
    what = "renew the certificate of the gateway (server) or of the institution NAME (repeatable)"
    parser.add_argument("--rotate", action="append", default=[], metavar="server|NAME", help=what)
    add_home(parser)


def _certs(given: argparse.Namespace) -> int:
    from server.hub.enrolment import renew_institution, renew_server
    from server.runs.status import certificates

    home = open_home(given)
    packages = {}
    for name in given.rotate:
        if name == "server":
            renew_server(home)
        else:
            packages[name] = str(renew_institution(home, name)[1])
    found = certificates(home)
    if given.json:
        cli.print_json({"certificates": found, "packages": packages})
        return 0
    for entry in found:
        warning = {"valid": "", "soon": "  <- renew it", "expired": "  <- EXPIRED"}[entry["state"]]
        print(f"{entry['name']:24} {entry['until'][:10]}  {entry['days_left']:6.0f} days{warning}")
    for name, path in packages.items():
        print(f"hand {name} its new package, to `fedfin-institution join`: {path}")
    return 0

"""`fedfin-hub certs`: list expiry dates, renew certificates."""

import argparse
from pathlib import Path

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]

_MOST_BYTES = 32_768
_WARNINGS = {"valid": "", "soon": "  <- renew it", "expired": "  <- EXPIRED", "own": "  (own authority)"}


def add(commands: cli.Commands) -> None:
    """`certs`."""
    text = "list expiry dates, or renew a certificate (a running hub loads it without losing a run)"
    parser = cli.subcommand(commands, "certs", _certs, text, "certs --rotate server")
    rotation = "renew the certificate of the gateway (server) or of the institution NAME (repeatable)"
    parser.add_argument("--rotate", action="append", default=[], metavar="server|NAME", help=rotation)
    trust = "name the authorities in FILE (PEM) to institutions, beside the hub's own, for the server certificate"
    parser.add_argument("--trust", type=Path, metavar="FILE", help=trust)
    request = "write a request for a server certificate by an outside authority to FILE"
    parser.add_argument("--request", type=Path, metavar="FILE", help=request)
    install = "use the server certificate in FILE, with its issuers (PEM), of an authority that --trust named"
    parser.add_argument("--install", type=Path, metavar="FILE", help=install)
    add_home(parser)
    cli.add_passphrase(parser)


def _certs(args: argparse.Namespace) -> int:
    from server.hub.enrolment import (
        install_server,
        renew_institution,
        renew_server,
        request_server,
        trust_server_authority,
    )
    from server.runs.status import certificates

    home = open_home(args)
    packages = {}
    if args.trust is not None:
        trust_server_authority(home, _read(args.trust))
    if args.request is not None:
        cli.write_output(args.request, request_server(home).encode())
    if args.install is not None:
        install_server(home, _read(args.install))
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
        print(f"{row['name']:24} {row['until'][:10]}  {row['days_left']:6.0f} days{_WARNINGS[row['state']]}")
    for name, path in packages.items():
        print(f"hand {name} its new package, to `fedfin-institution join`: {path}")
    return 0


def _read(path: Path) -> bytes:
    from common.errors import EnrolmentError
    from common.files import read_limited

    try:
        return read_limited(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EnrolmentError(f"{path}: cannot be read ({reason}): give a file of certificates in PEM") from None

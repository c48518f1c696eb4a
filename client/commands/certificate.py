"""fedfin-institution certificate: use a certificate of this institution's own authority."""

import argparse
from pathlib import Path

from client.commands.options import add_home, open_home
from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`certificate CHAIN`."""
    text = "use a TLS certificate of this institution's own authority, or renew it"
    parser = cli.subcommand(commands, "certificate", _run, text, "certificate chain.pem --home /srv/fedfin")
    words = "the certificate for client.csr, followed by its issuers up to the authority (PEM)"
    parser.add_argument("chain", type=Path, metavar="CHAIN", help=words)
    add_home(parser)
    cli.add_passphrase(parser)


def _run(args: argparse.Namespace) -> int:
    from client.institution.enrolment import bring_certificate, read_chain
    from common.identity.enrolment import format_fingerprint

    home = open_home(args)
    request, is_used = bring_certificate(home, read_chain(args.chain))
    if args.json:
        facts = {"request": str(home.request_path), "fingerprint": request.fingerprint, "used": is_used}
        cli.print_json(facts)
    elif is_used:
        print("The hub has approved this authority: the node uses the certificate for its next connection.")
    else:
        print(f"Send {home.request_path} to the hub's operator, and read this fingerprint to them by telephone:")
        print(f"   {format_fingerprint(request.fingerprint)}")
    return 0

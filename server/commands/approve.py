"""`fedfin-hub approve REQUEST`: let an institution in, after two people have compared a fingerprint."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from server.commands.options import add_home, open_home

if TYPE_CHECKING:
    from common.identity.enrolment import EnrolmentRequest

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`approve`."""
    text = "enrol the institution that made REQUEST, and write the package it joins with"
    example = 'approve request.json --fingerprint "1f3a 90bc 77d0 4e12 ..."'
    parser = cli.subcommand(commands, "approve", _approve, text, example)
    parser.add_argument("request", type=Path, metavar="REQUEST", help="request.json of `fedfin-institution init`")
    words = "the fingerprint that the institution reads out over another channel (default: ask for it)"
    parser.add_argument("--fingerprint", metavar="HEX", help=words)
    units = (
        "largest number of records or customers with which its declared size counts in the mean "
        "(default: 1024, or the one approved before)"
    )
    parser.add_argument("--declared-units", type=_units, metavar="N", help=units)
    own = "approve the authority of the certificate that the request brings, for this institution"
    parser.add_argument("--own-authority", action="store_true", help=own)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the package here")
    add_home(parser)
    cli.add_passphrase(parser)


def _approve(args: argparse.Namespace) -> int:
    from common.identity.enrolment import format_fingerprint
    from server.hub.enrolment import approve

    home = open_home(args)
    request = _read(args.request)
    _compare(request.keys.name, request.fingerprint, args.fingerprint)
    package, path = approve(home, request, args.declared_units, args.own_authority)
    if args.out is not None:
        cli.write_output(args.out, package.to_json().encode() + b"\n")
        path = args.out
    if args.json:
        facts = {"institution": package.institution, "package": str(path), "fingerprint": package.fingerprint}
        cli.print_json(facts)
        return 0
    print(f"{package.institution} is enrolled; its package: {path}")
    print(f"hand it over, and read to them: {format_fingerprint(package.fingerprint)}")
    return 0


def _units(text: str) -> int:
    from common.canonical import MAX_DECLARED_UNITS

    if not text.isdecimal() or not 1 <= int(text) <= MAX_DECLARED_UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_DECLARED_UNITS}")
    return int(text)


def _read(path: Path) -> "EnrolmentRequest":
    from common.errors import EnrolmentError
    from common.identity.enrolment import EnrolmentRequest

    try:
        with path.open("rb") as file:
            return EnrolmentRequest.from_json(file.read(100_000))
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read ({error.strerror}): give the institution's request") from None
    except EnrolmentError as error:
        raise EnrolmentError(f"{path}: {error}") from None


def _compare(name: str, fingerprint: str, spoken: str | None) -> None:
    """Raises EnrolmentError unless both people see the same."""
    from common.errors import EnrolmentError
    from common.identity.enrolment import format_fingerprint, is_fingerprint

    if spoken is not None:
        if not is_fingerprint(fingerprint, spoken):
            raise EnrolmentError(
                f"request of {name}: its fingerprint is {format_fingerprint(fingerprint)}, not the one given: "
                f"do not enrol it"
            )
        return
    if not sys.stdin.isatty():
        raise EnrolmentError(
            f"request of {name}: its fingerprint is {format_fingerprint(fingerprint)}: compare it with the "
            f"institution over "
            "another channel, and give --fingerprint"
        )
    print(f"request of {name}, with the fingerprint\n\n    {format_fingerprint(fingerprint)}\n")
    if input("Does the institution read out the same, over another channel? [y/N] ").strip().lower() not in (
        "y",
        "yes",
    ):
        raise EnrolmentError(f"request of {name}: not enrolled")

"""fedfin-hub: enrol institutions, run federations and verify the audit log, for the operator of a hub."""

import argparse
import sys

from common import cli
from server.commands import approve, certs, init, institutions, passphrase, revoke, run, start, status, verify

__all__ = ["main"]

ADDERS: tuple[cli.Add, ...] = (
    init.add,
    approve.add,
    revoke.add,
    institutions.add,
    certs.add,
    passphrase.add,
    start.add,
    status.add,
    run.add_run,
    run.add_resume,
    run.add_stop,
    run.add_report,
    verify.add,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser, with an example for each command."""
    return cli.build_parser(
        "fedfin-hub",
        "The hub of a federation: enrol institutions, run and resume federations, verify the audit log.",
        "init --home /srv/fedfin-hub",
        ADDERS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code (2 for bad input, 130 after an interruption)."""
    return cli.main(parser(), arguments, "interrupted; every finished round is saved")


if __name__ == "__main__":
    sys.exit(main())

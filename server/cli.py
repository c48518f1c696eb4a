"""fedfin-hub: the coordinator's operator enrols institutions, runs federations and proves what happened."""

import argparse
import sys

from common import cli
from server.commands import approve, certs, init, institutions, revoke, run, start, status, verify

__all__ = ["main"]

ADDERS: tuple[cli.Add, ...] = (
    init.add,
    approve.add,
    revoke.add,
    institutions.add,
    certs.add,
    start.add,
    status.add,
    run.add_run,
    run.add_resume,
    run.add_stop,
    run.add_report,
    verify.add,
)


def parser() -> argparse.ArgumentParser:
    """The command line, with an example for each command."""
    return cli.build_parser(
        "fedfin-hub",
        "The hub of a federation: enrol institutions, run and resume federations, verify the audit log.",
        "init --home /srv/fedfin-hub",
        ADDERS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 for bad input, 130 when interrupted)."""
    return cli.main(parser(), arguments, "interrupted; every finished round is saved")


if __name__ == "__main__":
    sys.exit(main())

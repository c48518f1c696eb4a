"""fedfin-hub: the coordinator's operator enrols institutions, runs federations and proves what happened."""

import argparse
import sys

from common import command

__all__ = ["main"]

ADDERS: tuple[command.Add, ...] = ()


def parser() -> argparse.ArgumentParser:
    """The command line, with an example for each command."""
    return command.top(
        "fedfin-hub",
        "The hub of a federation: enrol institutions, run and resume federations, verify the audit log.",
        "init /srv/fedfin-hub",
        ADDERS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 for bad input, 130 when interrupted)."""
    return command.main(parser(), arguments, "interrupted; every finished round is saved")


if __name__ == "__main__":
    sys.exit(main())

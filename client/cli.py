"""fedfin-institution: everything that happens inside one institution."""

import argparse
import sys

from client.commands import (
    adapt,
    advise,
    audit,
    budget,
    certificate,
    chat,
    domain_adversarial,
    evaluate,
    finetune,
    init,
    inspect,
    join,
    merge,
    passphrase,
    peers,
    personal,
    predict,
    stages,
    start,
    status,
)
from common import cli

__all__ = ["main"]

ADDERS: tuple[cli.Add, ...] = (
    adapt.add,
    advise.add,
    audit.add,
    budget.add,
    certificate.add,
    chat.add,
    domain_adversarial.add,
    evaluate.add,
    finetune.add,
    init.add,
    inspect.add,
    join.add,
    merge.add,
    passphrase.add,
    peers.add,
    personal.add,
    predict.add,
    stages.add,
    start.add,
    status.add,
)


def parser() -> argparse.ArgumentParser:
    """The command line, with an example for each command."""
    return cli.build_parser(
        "fedfin-institution",
        "One institution: fine-tune alone, join a federation, and keep its own privacy ledger.",
        "finetune --task sentiment_analysis --train train.csv --test test.csv --out runs/sentiment",
        ADDERS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 for bad input, 130 when interrupted)."""
    return cli.main(parser(), arguments, "interrupted; what was finished is saved: run the same command again")


if __name__ == "__main__":
    sys.exit(main())

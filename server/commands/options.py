"""Options that several subcommands of `fedfin-hub` take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.hub.directory import HubDirectory

__all__ = ["add_hub", "open_hub"]


def add_hub(parser: argparse.ArgumentParser) -> None:
    """`--hub DIR`."""
    text = "the hub's directory (default: $FEDFIN_HUB, or the current directory)"
    parser.add_argument("--hub", type=Path, metavar="DIR", help=text)


def open_hub(given: argparse.Namespace) -> "HubDirectory":
    """The hub that `--hub` names.

    Raises:
        ConfigurationError: there is none.
    """
    # Imported late: --help answers at once.
    from server.hub.directory import HubDirectory

    return HubDirectory.open(given.hub)

"""Options that several subcommands of `fedfin-hub` take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.hub.directory import HubDirectory

__all__ = ["add_home", "open_home"]


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add `--home DIR`, the hub's directory."""
    text = "the hub's directory (default: $FEDFIN_HUB, or the current directory)"
    parser.add_argument("--home", type=Path, metavar="DIR", help=text)


def open_home(args: argparse.Namespace) -> "HubDirectory":
    """Open the hub that `--home` names.

    Raises:
        ConfigurationError: there is none.
    """
    # Imported late: --help answers at once.
    from server.hub.directory import HubDirectory

    return HubDirectory.open(args.home)

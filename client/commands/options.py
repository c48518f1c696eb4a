"""Options that several subcommands of `fedfin-institution` share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from common.tasks import MULTI_TASK, TASKS

if TYPE_CHECKING:
    from client.institution.directory import InstitutionDirectory

__all__ = ["ENVIRONMENT", "LABELLED_TASKS", "add_home", "home_of", "open_home"]

LABELLED_TASKS = tuple(
    name for name, task in TASKS.items() if not task.head.is_language_modelling and name != MULTI_TASK
)
"""Those that one institution fine-tunes on rows of its own, one task at a time or several by `multi_task`."""

ENVIRONMENT = "FEDFIN_INSTITUTION"


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add `--home DIR`, the institution's directory."""
    text = f"the institution's directory (default: ${ENVIRONMENT}, or the current directory)"
    parser.add_argument("--home", type=Path, metavar="DIR", help=text)


def home_of(given: argparse.Namespace) -> "InstitutionDirectory":
    """The directory that `--home` names, whatever is in it."""
    from client.institution.directory import InstitutionDirectory

    return InstitutionDirectory((given.home or Path(os.environ.get(ENVIRONMENT) or ".")).resolve())


def open_home(given: argparse.Namespace) -> "InstitutionDirectory":
    """The institution that `--home` names, its settings readable.

    Raises:
        ConfigurationError: there is none, or its settings cannot be used.
    """
    home = home_of(given)
    home.settings()
    return home

"""Options that several subcommands of `fedfin-institution` share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.tracking.kinds import LOG_KINDS
from common.errors import ConfigurationError, DataError
from common.tasks import MULTI_TASK, TASKS

if TYPE_CHECKING:
    from client.finetune.job import TaskData
    from client.institution.directory import InstitutionDirectory

__all__ = [
    "ENVIRONMENT",
    "LABELLED_TASKS",
    "add_home",
    "add_log_to",
    "add_probe",
    "add_task_rows",
    "home_of",
    "open_home",
    "probes_of",
    "refuse_absent",
]

LABELLED_TASKS = tuple(
    name for name, task in TASKS.items() if not task.head.is_language_modelling and name != MULTI_TASK
)
"""Those that one institution fine-tunes on rows of its own, one task at a time or several by `multi_task`."""

ENVIRONMENT = "FEDFIN_INSTITUTION"


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add `--home DIR`, the institution's directory."""
    text = f"the institution's directory (default: ${ENVIRONMENT}, or the current directory)"
    parser.add_argument("--home", type=Path, metavar="DIR", help=text)


def add_task_rows(group: Any) -> None:
    """Add `--task`, `--train` and `--test` to a group: one task with its rows."""
    group.add_argument("--task", required=True, metavar="TASK", help=", ".join(LABELLED_TASKS))
    group.add_argument("--train", required=True, type=Path, metavar="FILE", help="rows to train on")
    group.add_argument("--test", required=True, type=Path, metavar="FILE", help="rows to measure on")


def add_log_to(parser: Any) -> None:
    """Add `--log-to TOOL`."""
    text = "also log each step for this tool, below --out (nothing is sent)"
    parser.add_argument("--log-to", choices=LOG_KINDS, help=text)


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Add the options of a second task that shows what the encoder still knows."""
    probe = parser.add_argument_group("a second task, measured before and after by a linear head on the encoder")
    probe.add_argument(
        "--probe-task", default="document_classification", metavar="TASK", help="default: document_classification"
    )
    probe.add_argument("--probe-train", type=Path, metavar="FILE", help="rows to fit the linear head on")
    probe.add_argument("--probe-test", type=Path, metavar="FILE", help="rows to measure it on")


def probes_of(args: argparse.Namespace) -> "tuple[TaskData, ...]":
    """Return the second task that the options name, if any."""
    from client.finetune.job import TaskData
    from common.data.reading import read_labelled
    from common.tasks import task

    if (args.probe_train is None) != (args.probe_test is None):
        raise ConfigurationError("--probe-train and --probe-test: give both, or neither")
    if args.probe_train is None:
        return ()
    kind = task(args.probe_task)
    train = read_labelled(args.probe_train, kind)
    test = read_labelled(args.probe_test, kind, labels=train.labels, numbered=train.numbered)
    return (TaskData(kind, train, test),)


def home_of(args: argparse.Namespace) -> "InstitutionDirectory":
    """The directory that `--home` names, whatever is in it."""
    from client.institution.directory import InstitutionDirectory

    return InstitutionDirectory((args.home or Path(os.environ.get(ENVIRONMENT) or ".")).resolve())


def open_home(args: argparse.Namespace) -> "InstitutionDirectory":
    """The institution that `--home` names, its settings readable.

    Raises:
        ConfigurationError: there is none, or its settings cannot be used.
    """
    home = home_of(args)
    home.settings()
    return home


def refuse_absent(args: argparse.Namespace, *names: str) -> None:
    """Refuse paths that do not exist, before a command imports torch to use them.

    Args:
        args: The command's arguments, `base_model` among them.
        names: Its arguments that are paths of data: one, a list, or None.

    Raises:
        DataError: A file or folder is absent.
        ModelError: The base model is absent.
    """
    from common.base_models.resolve import resolve_base

    for name in names:
        given = getattr(args, name)
        for path in given if isinstance(given, list) else [given]:
            if path is not None and not path.exists() and not set("*?[") & set(str(path)):
                raise DataError(f"{path}: no such data file or folder: check the path")
    resolve_base(args.base_model)

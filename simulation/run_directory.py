"""The directory of a simulated run, before torch is imported: whether it is free, and the note that marks it."""

import json
from pathlib import Path

from common.errors import CheckpointError, ConfigurationError

__all__ = ["read_note", "refuse_used"]


def refuse_used(out: Path) -> None:
    """Refuse an output directory that holds anything.

    Raises:
        ConfigurationError: It is a file, or not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: the output directory is not empty: choose another, or `resume` it")


def read_note(out: Path) -> tuple[str, Path | None, str]:
    """Read the note that marks a complete directory of a run.

    Returns:
        The run's name, the path of its configuration file (None from Python), and the digest of its data.

    Raises:
        CheckpointError: The note is absent or damaged.
    """
    try:
        run = json.loads((out / "run.json").read_text())
        return str(run["run_id"]), None if run["source"] is None else Path(run["source"]), str(run["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{out}: not the directory of a run (run.json is absent or damaged): start one with `run`"
        ) from error

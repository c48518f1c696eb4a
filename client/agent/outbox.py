"""The files of an institution's outbox: one for each answered round, named by the round and by its assignment."""

import hashlib
from pathlib import Path

__all__ = ["answer_name", "forget_before", "latest_answered"]


def forget_before(outbox: Path, round_: int) -> None:
    """Delete the answers to earlier rounds."""
    for old in outbox.iterdir():
        if old.name < f"{round_:010d}":
            old.unlink()


def answer_name(round_: int, payload: bytes) -> str:
    """Return the name of the file in the outbox that holds the answer to an assignment."""
    return f"{round_:010d}-{hashlib.sha256(payload).hexdigest()}"


def latest_answered(outbox: Path) -> int:
    """Return the last round that was answered. -1 without any."""
    names = [path.name[:10] for path in outbox.iterdir()] if outbox.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=-1)

"""Write files and directories whole or not at all, lock files, and write standard JSON."""

import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["INFINITE", "json_text", "replace_directory", "try_lock", "write_atomic", "write_json"]

INFINITE = "infinity"
"""An infinite epsilon in JSON, which has no infinite numbers. `float(INFINITE)` reads it. null is "none"."""


def json_text(value: object, indent: int | None = None) -> str:
    """`value` as JSON by the standard: an infinite number becomes "infinity", and NaN, which is no figure, null.

    Raises:
        ValueError: a number is minus infinity, which no figure of ours is.
    """
    return json.dumps(_standard(value), indent=indent, allow_nan=False)


def _standard(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value) and value != -math.inf:
        return None if math.isnan(value) else INFINITE
    if isinstance(value, Mapping):
        return {key: _standard(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(inner) for inner in value]
    return value


def write_json(path: Path, value: object, mode: int = 0o644) -> None:
    """Write `value` as indented JSON, atomically. See `json_text`."""
    write_atomic(path, (json_text(value, indent=2) + "\n").encode(), mode)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`: temporary file beside it, fsync, rename, fsync of the directory.

    After a crash at any moment the file holds either its old content or all of the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def replace_directory(directory: Path) -> Iterator[Path]:
    """Yield an empty draft directory that replaces `directory` if the block ends without an error.

    The draft lies beside `directory` under a hidden name. If the block fails, the draft is removed and `directory` is
    unchanged. A kill may leave a draft behind, never a half-written `directory`.

    Raises:
        OSError: the disk refuses a write.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield draft
        draft.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        draft.replace(directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def try_lock(handle: int, shared: bool = False) -> bool:
    """Lock an open file without waiting, and return whether the lock was free.

    The lock (`flock`) belongs to the open file. Closing the handle, or the end of the process, releases it.

    Args:
        handle: file descriptor.
        shared: take a lock that other shared locks may accompany.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""Write files and directories whole or not at all, lock files, and write standard JSON."""

import fcntl
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "INFINITE",
    "json_text",
    "open_own",
    "read_limited",
    "replace_directory",
    "try_lock",
    "write_atomic",
    "write_json",
]

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


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a regular file. It never waits for a pipe and never reads an endless device.

    Args:
        limit: The most bytes that the file may have.

    Raises:
        OSError: The file is absent or cannot be read.
        ValueError: It is no regular file, or it is longer than `limit`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("not a regular file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return data


def open_own(path: Path, flags: int) -> int:
    """Open a file (0600) that this process keeps for itself, and create it if it is absent.

    A link at `path` is not followed, so the call never reaches a file that another party chose. Nothing is truncated.

    Args:
        flags: `os.O_RDWR` or `os.O_WRONLY`, with `os.O_APPEND` if wished.

    Returns:
        The file descriptor. It does not survive `exec`.

    Raises:
        OSError: The path is a link (`errno.ELOOP`), or cannot be opened.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_atomic(path: Path, data: bytes, mode: int = 0o644, sync: bool = True) -> None:
    """Replace `path` by `data`: temporary file beside it, fsync, rename, fsync of the directory.

    After a crash at any moment the file holds either its old content or all of the new one. A link at `path` is
    replaced and never followed.

    Args:
        sync: False leaves out both fsyncs, for a file that nothing depends on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if not sync:
        return
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

"""Files that matter are written whole or not at all; JSON that is printed or written is JSON to every reader."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["INFINITE", "json_text", "write_atomic", "write_json"]

INFINITE = "infinity"
"""What stands for an infinite epsilon in JSON, which has no such number; `float(INFINITE)` reads it. null is "none"."""


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
    """Write `value` as indented JSON, atomically; see `json_text`."""
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

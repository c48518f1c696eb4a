"""JSON lines: one object a line."""

import json
from collections.abc import Collection
from pathlib import Path

from common.data.raw_text import read_text
from common.data.table import Table
from common.errors import DataError

__all__ = ["open_json_lines"]


def open_json_lines(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a `.jsonl` file. See `Opener`."""
    rows: list[tuple[int, dict[str, object]]] = []
    # Not splitlines(): JSON strings may hold U+2028 and the like unescaped.
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}: row {number} is not valid JSON: write one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is not a JSON object: write one object a line")
        rows.append((number, row))
    return Table(tuple(dict.fromkeys(name for _, row in rows for name in row)), rows)

"""JSON: one object a line (`.jsonl`), or a list of objects (`.json`). Nested objects become columns with dots."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from common.data.annotation_exports import converted, fiqa_rows
from common.data.raw_text import read_text
from common.data.table import Table
from common.errors import DataError

__all__ = ["open_json", "open_json_lines"]

Rows = Sequence[tuple[int, Mapping[str, object]]]


def open_json_lines(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a `.jsonl` file, which may be an export of an annotation tool. See `Opener`."""
    return _table(path, _lines(path, read_text(path)))


def open_json(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a `.json` file: a list of objects, an object that holds one, or JSON lines. See `Opener`.

    Exports of Label Studio and doccano, and the files of FiQA, are understood, see `annotation_exports`.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: its values are nested too deeply: export a list of objects") from None
    except ValueError as error:
        if not str(error).startswith("Extra data"):
            raise DataError(f"{path}: not valid JSON: export it again") from None
        return _table(path, _lines(path, text))
    rows = fiqa_rows(path, content)
    if rows is not None:
        return _of_rows(rows)
    records = _list_in(content)
    if records is None:
        raise DataError(f"{path}: it holds no list of objects: export one, or JSON lines")
    return _table(path, list(enumerate(records, start=1)))


def _lines(path: Path, text: str) -> Rows:
    rows: list[tuple[int, Mapping[str, object]]] = []
    # Not splitlines(): JSON strings may hold U+2028 and the like unescaped.
    for number, line in enumerate(text.rstrip().split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}: row {number} is not valid JSON: write one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is not a JSON object: write one object a line")
        rows.append((number, row))
    return rows


def _list_in(content: object) -> list[Mapping[str, object]] | None:
    """Return a list of objects, or the only one among the values of an object."""
    values = list(content.values()) if isinstance(content, dict) else [content]
    lists = [value for value in values if isinstance(value, list) and value]
    if len(lists) != 1 or not all(isinstance(record, dict) for record in lists[0]):
        return None
    return lists[0]


def _table(path: Path, rows: Rows) -> Table:
    exported = converted(path, rows)
    return _of_rows([(number, dict(_flat(row))) for number, row in rows] if exported is None else exported)


def _of_rows(rows: Rows) -> Table:
    return Table(tuple(dict.fromkeys(name for _, row in rows for name in row)), rows)


def _flat(row: Mapping[str, object], outer: str = "") -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", None if value == {} else value

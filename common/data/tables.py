"""Tables as rows of text. Every defect is one `DataError`.

A message names file, row and column and never quotes a value, so that no private text lands in a log.
Rows are counted from 1: records below the header in CSV and TSV, lines in JSON lines, records in Parquet.
"""

from collections.abc import Collection
from pathlib import Path

from common.data.cells import as_text, as_texts
from common.data.files import OPENERS, open_table
from common.data.raw_text import file_kind
from common.errors import DataError

__all__ = ["FORMATS", "class_names", "read_lists", "read_rows"]

FORMATS = tuple(OPENERS)


def read_rows(path: Path, columns: Collection[str] | None = None) -> list[dict[str, str]]:
    """Return the rows of a table in the order of the file. Absent values are "".

    Args:
        path: Its format is told from its name, see `common.data.files.OPENERS`.
        columns: The wanted columns. Each must exist. None means all of them.

    Raises:
        DataError: unknown format, unreadable or malformed file, missing column, a value that is not a text or number.
    """
    result = [
        {name: as_text(path, number, name, row.get(name)) for name in (row if columns is None else columns)}
        for number, row in open_table(path, columns).rows
    ]
    if not result:
        raise DataError(f"{path}: the file holds no rows")
    return result


def read_lists(path: Path, columns: Collection[str]) -> list[dict[str, list[str]]]:
    """Return the rows of a table whose `columns` hold lists of texts or numbers, such as a sentence's words.

    Raises:
        DataError: as `read_rows`. Also for another format, and for a value that is no such list.
    """
    if file_kind(path) in (".csv", ".tsv"):
        raise DataError(f"{path}: a {file_kind(path)} file holds no lists: name it *.jsonl or *.parquet")
    return [
        {name: as_texts(path, number, name, row.get(name)) for name in columns}
        for number, row in open_table(path, columns).rows
    ]


def class_names(path: Path, column: str) -> tuple[str, ...] | None:
    """Return the names behind the numbers in a file's `column`, if Hugging Face `datasets` has stored them."""
    try:
        return open_table(path, ()).label_names.get(column)
    except DataError:
        return None  # reading its rows reports any fault

"""Tables as rows of text."""

from collections.abc import Collection
from pathlib import Path

from common.data.cells import as_text
from common.data.files import open_table
from common.errors import DataError

__all__ = ["read_rows"]


def read_rows(path: Path, columns: Collection[str] | None = None) -> list[dict[str, str]]:
    """Return the rows of a table in the order of the file. Absent values are "".

    Args:
        path: Its format is told from its name, see `common.data.files.OPENERS`.
        columns: The wanted columns. Each must exist. None means all of them.

    Raises:
        DataError: unknown format, unreadable or malformed file, missing column, a value that is not a text or number.
            The message names file, row and column and never quotes a value.
    """
    result = [
        {name: as_text(path, number, name, row.get(name)) for name in (row if columns is None else columns)}
        for number, row in open_table(path, columns).rows
    ]
    if not result:
        raise DataError(f"{path}: the file holds no rows")
    return result

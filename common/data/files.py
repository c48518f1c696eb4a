"""Which function opens which kind of data file. A new kind of file is one more entry in one of these tables."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from common.data.arrow_files import open_arrow, open_parquet
from common.data.compressed import COMPRESSED
from common.data.delimited_files import open_delimited
from common.data.json_files import open_json, open_json_lines
from common.data.marked_lines import open_marked_lines
from common.data.raw_text import file_kind
from common.data.spreadsheets import open_spreadsheet
from common.data.table import Opener, Table, missing_column
from common.errors import DataError

__all__ = ["OPENERS", "open_table"]

OPENERS: Mapping[str, Opener] = MappingProxyType(
    {
        ".csv": open_delimited,
        ".tsv": open_delimited,
        ".json": open_json,
        ".jsonl": open_json_lines,
        ".parquet": open_parquet,
        ".arrow": open_arrow,
        ".feather": open_arrow,
        ".xlsx": open_spreadsheet,
        ".xlsm": open_spreadsheet,
    }
)
"""By suffix (without that of a compression), the function that opens a table."""


def open_table(path: Path, columns: Collection[str] | None = None) -> Table:
    """Open a file that holds a table.

    Args:
        path: The file. Its format is told from its name.
        columns: The columns that are needed. Each must exist. None means all columns.

    Raises:
        DataError: The format is unknown, the file cannot be used, or a column is missing.
    """
    kind = file_kind(path)
    opener = open_marked_lines if kind == ".txt" else OPENERS.get(kind)
    if opener is None:
        raise DataError(f"{path}: unknown format: name it {known_formats()}")
    table = opener(path, columns)
    for name in columns or ():
        if name not in table.columns:
            raise missing_column(path, name, table)
    return table


def known_formats() -> str:
    """Return the names of the formats for a message."""
    return f"*{', *'.join(OPENERS)} (each may also end in {', '.join(COMPRESSED)})"

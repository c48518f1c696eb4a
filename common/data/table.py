"""The rows of one data file as its format stores them, before they are read as texts."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.errors import DataError

__all__ = ["Opener", "Table", "is_value", "listed_columns", "missing_column", "shown"]

_NAME = re.compile(r"[^\W\d][\w .:/()#%&-]{0,39}")
_MOST_WORDS = 4
_MOST_LISTED = 20
_DIGIT = re.compile("[0-9]")
_MOST_LOOKED_AT = 200
"""Number of values of a column that are compared with its name."""
_LONGEST = 4
"""Median length of values, in lengths of the column's name in words, up to which the name may be one of them."""


@dataclass(frozen=True)
class Table:
    """The rows of one file.

    Attributes:
        columns: Names of the columns, in the order of the file. A nested column has dots: "meta.desk".
        rows: The number of each row in the file, from 1, and its values by column. A value is a text, a number, a
            bool, a date, a list of such values, or None. Rows may lack columns. They are read once.
        label_names: By column, the names that the file itself gives to the numbers 0, 1, ... in that column.
        has_header: Whether the column names are surely names. In a CSV file without a header they are a row's values.
        row_is_word: Whether the file has a line for each word, so that the word at position i of a row stands in
            line `number + i`.
    """

    columns: tuple[str, ...]
    rows: Iterable[tuple[int, Mapping[str, object]]]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_header: bool = True
    row_is_word: bool = False


class Opener(Protocol):
    """A function that opens one kind of file."""

    def __call__(self, path: Path, columns: Collection[str] | None, /) -> Table:
        """Open a file.

        Args:
            path: The file.
            columns: The columns that the caller needs. Others may be left out of the rows, but not of
                `Table.columns`. None means all columns.

        Raises:
            DataError: One line that names the file and, if there is one, the row. It quotes no value of the file.
        """


def shown(name: str) -> str:
    """Return a column's name for a message if it looks like a name. Otherwise it may be a value, and is not shown."""
    return f'"{name}"' if _looks_like_name(name) else "without a usable name"


def missing_column(path: Path, wanted: str, table: Table) -> DataError:
    """Return the error for an absent column. It lists the file's columns if they look like names."""
    return DataError(f'{path}: column "{wanted}" is missing: {listed_columns(table)}')


def listed_columns(table: Table) -> str:
    """Return a clause that names the columns of a file, or says that its first line is no header."""
    named = sorted(name for name in table.columns if name)
    if not table.has_header or not named or not all(map(_looks_like_name, named)):
        return "its first line does not look like a header: add a line with the columns' names"
    more = f" and {len(named) - _MOST_LISTED} more" if len(named) > _MOST_LISTED else ""
    return f"the file has {', '.join(named[:_MOST_LISTED])}{more}"


def is_value(name: str, values: Sequence[str]) -> bool:
    """Return whether the name of a column is rather its first value, as in a file without a header.

    It is if it stands among the values, as the label of a first row does. It is also if it differs from a value in its
    digits alone, as account numbers do, or if it has several words, and so have two or more values, as headlines do.

    Args:
        name: The name of the column.
        values: The values below it.
    """
    if name in values:
        return True
    some = [value for value in values[:_MOST_LOOKED_AT] if value.strip()]
    shape = _DIGIT.sub("0", name)
    if shape != name and any(shape == _DIGIT.sub("0", value) for value in some):
        return True
    words = len(name.split())
    lengths = sorted(len(value.split()) for value in some)
    return words > 1 and len(lengths) > 1 and 2 <= lengths[len(lengths) // 2] <= _LONGEST * words


def _looks_like_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name.split()) <= _MOST_WORDS and not name.endswith((".", ":"))

"""Excel workbooks (`.xlsx`, `.xlsm`): the sheet and the row that hold the header are found by the column names.

openpyxl reads them, and is imported when it is used.
"""

import io
import itertools
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.compressed import Expansion
from common.data.raw_text import read_bytes
from common.data.table import Table, is_value, shown
from common.errors import DataError

__all__ = ["open_spreadsheet"]

_MOST_ROWS = 2**20
"""Number of rows of the largest sheet that a spreadsheet program makes."""
_VALUE_BYTES = 8
_REMEDY = "export the sheet as CSV if you trust it"
_HEADER_ROWS = 50
"""Number of rows, from the top of a sheet, among which the header is sought. Titles and notes stand above it."""

Row = tuple[object, ...]


@dataclass(frozen=True)
class _Header:
    """The header of a sheet: the number of its row, from 1, and the column names by position, from 0."""

    sheet: str
    row: int
    names: Mapping[int, str]


def open_spreadsheet(path: Path, columns: Collection[str] | None, /) -> Table:
    """Open a workbook. See `Opener`. The number of a row is the one that a spreadsheet program shows.

    The header is the first row with all of `columns`, within the first 50 rows of a visible sheet. Without `columns`,
    it is the first row with texts in as many columns as any of these rows has. Formulas have the values that were
    stored with them. Rows without any value are left out.

    Raises:
        DataError: It is no workbook, two sheets have these columns, or a value is an error or an uncomputed formula.
    """
    data = read_bytes(path)
    try:
        return _open(path, data, columns)
    except DataError:
        raise
    except Exception:
        # openpyxl raises errors of many kinds on damaged files, and some of them quote values.
        raise DataError(f"{path}: not a readable .xlsx workbook: save it again as .xlsx, without a password") from None


def _open(path: Path, data: bytes, columns: Collection[str] | None) -> Table:
    book = _workbook(path, data, values=True)
    visible = [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
    tops = {name: list(itertools.islice(_cells(book[name]), _HEADER_ROWS)) for name in visible}
    found = [header for name, top in tops.items() if (header := _header(name, top, columns))]
    if columns is not None and not found:
        found = [header for name, top in tops.items() if (header := _header(name, top, None))][:1]
        names = tuple(found[0].names.values()) if found else ()
        return Table(names, (), has_header=bool(found) and not _is_row(found[0], tops[found[0].sheet]))
    if columns is None and len(found) > 1:  # a sheet with one column beside a wider one holds notes
        widest = max(len(header.names) for header in found)
        found = [header for header in found if len(header.names) > 1 or widest == 1]
    if not found:
        raise DataError(f"{path}: no visible sheet has a row of column names: add one above the rows")
    if len(found) > 1:
        sheets = " and ".join(shown(header.sheet) for header in found)
        raise DataError(f"{path}: the sheets {sheets} have the same columns: save the one to read as a file of its own")
    [header] = found
    every = list(header.names.values())
    if any(every.count(name) > 1 for name in (every if columns is None else columns)):
        raise DataError(f"{path}: the header has a repeated column name: give each column its own")
    expansion = Expansion(path, len(data), _REMEDY)
    rows = list(_rows(_cells(book[header.sheet]), header, expansion))
    wanted = {place: name for place, name in header.names.items() if columns is None or name in columns}
    _refuse_errors(path, data, header, rows, wanted)
    return Table(
        tuple(every),
        [(number, {name: _value(row, place) for place, name in wanted.items()}) for number, row in rows],
    )


def _workbook(path: Path, data: bytes, *, values: bool) -> Any:
    import openpyxl

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        Expansion(path, len(data), _REMEDY).check(sum(member.file_size for member in archive.infolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and rules for input, which are not read
        return openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=values)


def _cells(sheet: Any) -> Iterator[Row]:
    sheet.reset_dimensions()  # some programs write a size that is too small, and rows beyond it would be lost
    # A row that states the number one billion would be preceded by as many empty ones.
    yield from itertools.islice(sheet.iter_rows(values_only=True), _MOST_ROWS)


def _header(sheet: str, top: Sequence[Row], columns: Collection[str] | None) -> _Header | None:
    rows = [{place: _name(value) for place, value in enumerate(row) if _name(value)} for row in top]
    if columns is None:
        texts = [sum(isinstance(value, str) for value in row) for row in top]
        widest = max(texts, default=0)
        chosen = texts.index(widest) if widest else None
    else:
        chosen = next((n for n, names in enumerate(rows) if set(columns) <= set(names.values())), None)
    if chosen is None:
        return None
    return _Header(sheet, chosen + 1, rows[chosen])


def _name(value: object) -> str:
    return "" if value is None else str(_plain(value)).strip()


def _is_row(header: _Header, top: Sequence[Row]) -> bool:
    """Return whether the header is rather a first row, by the values below it."""
    below = {place: [_name(_value(row, place)) for row in top[header.row :]] for place in header.names}
    return any(is_value(name, below[place]) for place, name in header.names.items())


def _rows(cells: Iterator[Row], header: _Header, expansion: Expansion) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(cells, start=1):
        # A text that many cells share is stored once, and a lone cell on the right makes a row of 16,384.
        expansion.add(sum(_VALUE_BYTES + (len(value) if isinstance(value, str) else 0) for value in row))
        if number > header.row and any(_value(row, place) not in (None, "") for place in header.names):
            yield number, row


def _value(row: Row, place: int) -> object:
    return _plain(row[place] if place < len(row) else None)


def _plain(value: object) -> object:
    """Return a value without the way in which Excel writes control characters, such as _x000D_."""
    from openpyxl.utils.escape import unescape

    return unescape(value) if isinstance(value, str) and "_x" in value else value


def _refuse_errors(
    path: Path, data: bytes, header: _Header, rows: Sequence[tuple[int, Row]], wanted: Mapping[int, str]
) -> None:
    """Refuse errors such as #REF!, and formulas that were written by a program that did not compute them."""
    from openpyxl.cell.cell import ERROR_CODES

    for number, row in rows:
        for place, name in wanted.items():
            if _value(row, place) in ERROR_CODES:
                raise DataError(
                    f"{path}: row {number}, column {shown(name)} holds an error of a formula: correct the formula"
                )
    if not _has_formulas(data):
        return
    known = dict(rows)
    for number, row in enumerate(_cells(_workbook(path, data, values=False)[header.sheet]), start=1):
        for place, name in wanted.items():
            written = place < len(row) and row[place] is not None
            if number > header.row and written and _value(known.get(number, ()), place) is None:
                raise DataError(
                    f"{path}: row {number}, column {shown(name)} holds a formula without a stored value: open the file "
                    "in a spreadsheet program and save it"
                )


def _has_formulas(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if name.startswith("xl/worksheets/")]
    return any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets)

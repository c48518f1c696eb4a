"""CSV and TSV files. Fields of a CSV file may also be separated by semicolons, tabs or bars."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from common.data.raw_text import file_kind, read_text
from common.data.table import Table, is_value
from common.errors import DataError

__all__ = ["open_delimited"]

_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def open_delimited(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a `.csv` or `.tsv` file. Its first line is the header. See `Opener`.

    A spreadsheet's first line `sep=;` is understood. Otherwise a `.csv` file is separated by the sign that is most
    frequent in its header. A spreadsheet writes all rows as wide as the widest: empty fields at the end of a row, and
    rows without any value, are left out.
    """
    csv.field_size_limit(2**31 - 1)  # an annual report is longer than the reader's usual 131,072 characters
    content = read_text(path)
    separator, content = _separator(path, content)
    kind = "TSV" if file_kind(path) == ".tsv" else "CSV"
    # The standard library's strict reader: it alone reports an unterminated quote instead of swallowing rows.
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    records: list[list[str]] = []
    try:
        records.extend(record for record in reader if any(record) or not records)
        fault = None
    except csv.Error:
        fault = DataError(f"{path}: row {len(records)} is not valid {kind}: check its quotes")
    header, body = ([name.strip() for name in records[0]], records[1:]) if records else ([], [])
    if fault is not None and not header:
        raise fault from None
    if any(not _is_text(name) for name in header):
        raise DataError(f"{path}: its first line is not UTF-8 text: convert the file")
    named = [name for name in header if name]  # data frames write their index as a column without a name
    if len(set(named)) < len(named):
        raise DataError(f"{path}: the header has a repeated column name: give each column its own")
    rows = _rows(path, header, body, _NAMES[separator], fault)
    return Table(tuple(named), rows, has_header=not _is_row(header, body))


def _separator(path: Path, content: str) -> tuple[str, str]:
    """Return the sign between fields, and the content without a spreadsheet's line about it."""
    first, _, rest = content.partition("\n")
    declared = first.rstrip("\r")
    if declared.lower().startswith("sep=") and len(declared) == 5:
        if declared[4] not in _SEPARATORS:
            raise DataError(f"{path}: its line sep= names an unknown sign: separate fields by {_listed()}")
        return declared[4], rest
    if file_kind(path) == ".tsv":
        return "\t", content
    plain = "".join(first.split('"')[::2])  # without quoted fields
    return max(_SEPARATORS, key=plain.count), content


def _listed() -> str:
    *others, last = _NAMES.values()
    return f"{', '.join(others)} or {last}"


def _rows(
    path: Path, header: Sequence[str], body: Sequence[Sequence[str]], between: str, fault: DataError | None
) -> Iterator[tuple[int, Mapping[str, object]]]:
    needed = max((place for place, name in enumerate(header, start=1) if name), default=0)
    for number, record in enumerate(body, start=1):
        if len(record) < needed or any(record[len(header) :]):
            raise DataError(
                f"{path}: row {number} has {len(record)} columns, the header {len(header)}: quote {between}"
            )
        yield number, {name: value for name, value in zip(header, record, strict=False) if name}
    if fault is not None:
        raise fault from None


def _is_row(header: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line is rather a first row, by the values below it."""
    columns = {name: [record[place] for record in body if place < len(record)] for place, name in enumerate(header)}
    return any(is_value(name, values) for name, values in columns.items() if name)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

"""CSV, TSV, JSON-lines and Parquet files, plain or gzipped, as rows of text. Every defect is one `DataError`.

A message names file, row and column and never quotes a value, so that no private text lands in a log.
Rows are counted from 1: records below the header in CSV and TSV, lines in JSON lines, records in Parquet.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet

from common.errors import DataError

__all__ = ["FORMATS", "class_names", "read_lists", "read_rows", "read_text"]

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


def read_text(path: Path) -> str:
    """The file's text, gunzipped if its name ends in `.gz`. Bytes that are not UTF-8 become lone surrogates.

    Raises:
        DataError: the file is absent, unreadable, empty or a damaged gzip.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise DataError(f"{path}: no such data file: check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: the gzip data is damaged or cut short: copy the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    # Surrogates let the caller name the row and column of a bad byte.
    return data.decode("utf-8-sig", errors="surrogateescape")


def read_rows(path: Path, columns: Collection[str] | None = None) -> list[dict[str, str]]:
    """Rows of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file (all but the last also `.gz`), in file order. Absent
    values are "".

    Args:
        path: its format is told from its name.
        columns: the wanted columns. Each must exist. None means all of them.

    Raises:
        DataError: unknown format, unreadable or malformed file, missing column, a value that is not a text or number.
    """
    result = [
        {name: _text(path, number, name, row.get(name)) for name in (row if columns is None else columns)}
        for number, row in enumerate(_records(path, columns), start=1)
    ]
    if not result:
        raise DataError(f"{path}: the file holds no rows")
    return result


def read_lists(path: Path, columns: Collection[str]) -> list[dict[str, list[str]]]:
    """Rows of a `.jsonl` or `.parquet` file whose `columns` hold lists of texts or numbers, such as a sentence's words.

    Raises:
        DataError: as `read_rows`. Also for another format, and for a value that is no such list.
    """
    if _kind(path) not in (".jsonl", ".parquet"):
        raise DataError(f"{path}: a {_kind(path)} file holds no lists: name it *.jsonl or *.parquet")
    records = enumerate(_records(path, columns), start=1)
    return [{name: _texts(path, number, name, row.get(name)) for name in columns} for number, row in records]


def class_names(path: Path, column: str) -> tuple[str, ...] | None:
    """Return the names behind the numbers in a Parquet file's `column`, if Hugging Face `datasets` has stored them."""
    if _kind(path) != ".parquet":
        return None
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        feature = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][column]
        names = feature["names"] if "names" in feature else feature["feature"]["names"]
        return tuple(str(name) for name in names)
    except (OSError, ValueError, LookupError, TypeError, pyarrow.ArrowException):
        return None  # another writer's file: reading its rows reports any fault


def _kind(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def _records(path: Path, columns: Collection[str] | None) -> Iterable[Mapping[str, object]]:
    match _kind(path):
        case ".csv":
            return _table(path, columns, ",")
        case ".tsv":
            return _table(path, columns, "\t")
        case ".jsonl":
            return _jsonl(path, columns)
        case ".parquet" if path.suffix != ".gz":
            return _parquet(path, columns)
        case _:
            raise DataError(f"{path}: unknown format: name it *{', *'.join(FORMATS)} (all but the last may end in .gz)")


def missing_column(path: Path, wanted: str, found: Iterable[str]) -> DataError:
    """Return the error for an absent column. Column names are no secret, so the message lists them."""
    return DataError(f'{path}: column "{wanted}" is missing: the file has {", ".join(sorted(found))}')


def _table(path: Path, columns: Collection[str] | None, delimiter: str) -> Iterator[dict[str, str]]:
    kind, between = ("TSV", "tabs") if delimiter == "\t" else ("CSV", "commas")
    csv.field_size_limit(2**31 - 1)  # an annual report is longer than the reader's usual 131,072 characters
    # The standard library's strict reader: it alone reports an unterminated quote instead of swallowing rows.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = next(reader)
        for name in header:
            _text(path, 0, "header", name)
        named = [name for name in header if name]  # data frames write their index as a column without a name
        if len(set(named)) < len(named):
            raise DataError(f"{path}: the header has a repeated column name: give each column its own")
        for name in columns or ():
            if name not in header:
                raise missing_column(path, name, header)
        for record in reader:
            if not record:
                continue
            number += 1
            if len(record) != len(header):
                raise DataError(
                    f"{path}: row {number} has {len(record)} columns, the header {len(header)}: quote {between}"
                )
            yield {name: value for name, value in zip(header, record, strict=True) if name}
    except csv.Error:
        raise DataError(f"{path}: row {number + 1} is not valid {kind}: check its quotes") from None


def _jsonl(path: Path, columns: Collection[str] | None) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    # Not splitlines(): JSON strings may hold U+2028 and the like unescaped.
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}: row {number} is not valid JSON: write one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is not a JSON object: write one object a line")
        rows.append(row)
    found = {name for row in rows for name in row}
    for name in columns or ():
        if name not in found:
            raise missing_column(path, name, found)
    return rows


def _parquet(path: Path, columns: Collection[str] | None) -> list[dict[str, object]]:
    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            names = table.schema_arrow.names
            for name in columns or ():
                if name not in names:
                    raise missing_column(path, name, names)
            rows: list[dict[str, object]] = table.read(columns=None if columns is None else list(columns)).to_pylist()
            return rows
    except FileNotFoundError:
        raise DataError(f"{path}: no such data file: check the path") from None
    except (OSError, ValueError, pyarrow.ArrowException):
        # Arrow's own messages may quote bytes of the file.
        raise DataError(f"{path}: not a readable Parquet file: export it again") from None


def _texts(path: Path, row: int, column: str, value: object) -> list[str]:
    if not isinstance(value, list):
        raise DataError(f'{path}: row {row}, column "{column}" is not a list: give one entry a word')
    return [_text(path, row, column, each) for each in value]


def _text(path: Path, row: int, column: str, value: object) -> str:
    if value is None or value != value:  # NaN: absent, as data frames write it
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f'{path}: row {row}, column "{column}" is not UTF-8: convert the file') from None
        return value
    if isinstance(value, (bool, int, float)):
        return str(value)
    raise DataError(f'{path}: row {row}, column "{column}" is neither a text nor a number')

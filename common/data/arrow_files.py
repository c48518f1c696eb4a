"""Parquet, Feather and Arrow files, with the label names that Hugging Face `datasets` stores in their schema."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from common.data.raw_text import read_bytes
from common.data.table import Table
from common.errors import DataError

__all__ = ["open_arrow", "open_parquet"]


def open_parquet(path: Path, columns: Collection[str] | None, /) -> Table:
    """Open a `.parquet` file. See `Opener`."""
    data = read_bytes(path)
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        wanted = None
        if columns is not None:
            heads = {name.split(".")[0] for name in columns} | set(columns)
            wanted = [name for name in file.schema_arrow.names if name in heads]
        return _table(file.read(columns=wanted), file.schema_arrow, columns)
    except (OSError, ValueError, pyarrow.ArrowException):
        # Arrow's own messages may quote bytes of the file.
        raise DataError(f"{path}: not a readable Parquet file: export it again") from None


def open_arrow(path: Path, columns: Collection[str] | None, /) -> Table:
    """Open an `.arrow` or `.feather` file: an Arrow file (Feather 2), or an Arrow stream. See `Opener`."""
    data = read_bytes(path)
    try:
        source = pyarrow.BufferReader(data)
        opened = pyarrow.ipc.open_file(source) if data.startswith(b"ARROW1") else pyarrow.ipc.open_stream(source)
        return _table(opened.read_all(), opened.schema, columns)
    except (OSError, ValueError, pyarrow.ArrowException):
        raise DataError(f"{path}: not a readable Arrow file: export it again") from None


def _table(table: pyarrow.Table, schema: pyarrow.Schema, columns: Collection[str] | None) -> Table:
    every, names = _flat(schema.empty_table()).schema.names, _label_names(schema)
    table = _flat(table)
    if len(set(every)) < len(every):
        raise ValueError("a column name is repeated")
    chosen = [name for name in table.schema.names if columns is None or name in columns]
    values = {name: _readable(table.column(name)).to_pylist() for name in chosen}
    rows = ((number + 1, {name: column[number] for name, column in values.items()}) for number in range(table.num_rows))
    return Table(tuple(every), rows, names)


def _flat(table: pyarrow.Table) -> pyarrow.Table:
    """Return the table with the fields of nested columns as columns "outer.inner"."""
    while any(pyarrow.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _readable(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Return a column whose values Python can hold: timestamps and times in microseconds."""
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    if pyarrow.types.is_time64(kind) and kind.unit == "ns":
        return column.cast(pyarrow.time64("us"), safe=False)
    if pyarrow.types.is_duration(kind) and kind.unit == "ns":
        return column.cast(pyarrow.duration("us"), safe=False)
    return column


def _label_names(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names behind the numbers of each column, as Hugging Face `datasets` writes them into a schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return dict(_named(features)) if isinstance(features, Mapping) else {}
    except (ValueError, LookupError, TypeError):
        return {}  # another writer's file


def _named(features: Mapping[str, object], outer: str = "") -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, feature in features.items():
        while isinstance(feature, list) and len(feature) == 1:  # the oldest way to write a list of a feature
            feature = feature[0]
        while isinstance(feature, Mapping) and isinstance(feature.get("feature"), Mapping | list):
            feature = feature["feature"]
            feature = feature[0] if isinstance(feature, list) and len(feature) == 1 else feature
        if not isinstance(feature, Mapping):
            continue
        names = feature.get("names")
        if isinstance(names, list) and all(isinstance(each, str) for each in names):
            found.append((outer + name, tuple(names)))
        elif "_type" not in feature:
            found += _named(feature, f"{outer}{name}.")
    return found

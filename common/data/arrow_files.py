"""Parquet, Feather and Arrow files, with the label names that Hugging Face `datasets` stores in their schema."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from common.data.arrow_limits import VALUE_BYTES, count, inflated_bytes
from common.data.compressed import Expansion
from common.data.raw_text import read_bytes
from common.data.table import Table
from common.errors import DataError

__all__ = ["open_arrow", "open_parquet"]

_BATCH_ROWS = 2**16
_NOT_AS_DICTIONARY = frozenset({"DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"})
"""Encodings of texts that Arrow cannot read as a dictionary."""
_REPEATING = frozenset({"DELTA_BYTE_ARRAY", "PLAIN_DICTIONARY", "RLE_DICTIONARY"})
"""Encodings in which a text takes a few bytes if it resembles one before it. It is expanded as a whole."""
_REMEDY = "split it into smaller files, or export it as CSV if you trust it"


def open_parquet(path: Path, columns: Collection[str] | None, /) -> Table:
    """Open a `.parquet` file. See `Opener`."""
    data = read_bytes(path)
    try:
        source, expansion = pyarrow.BufferReader(data), _expansion(path, data)
        file = pyarrow.parquet.ParquetFile(source)
        schema = file.schema_arrow
        wanted = schema.names
        if columns is not None:
            heads = {name.split(".")[0] for name in columns} | set(columns)
            wanted = [name for name in wanted if name in heads]
        texts, batch_rows = _planned(file, wanted, expansion)
        file = pyarrow.parquet.ParquetFile(source, metadata=file.metadata, read_dictionary=texts)
        batches = file.iter_batches(batch_rows, columns=wanted)
        return _table(batches, schema, columns, expansion)
    except MemoryError:
        raise DataError(f"{path}: it does not fit in memory: {_REMEDY}") from None
    except (OSError, ValueError, pyarrow.ArrowException):
        # Arrow's own messages may quote bytes of the file.
        raise DataError(f"{path}: not a readable Parquet file: export it again") from None


def open_arrow(path: Path, columns: Collection[str] | None, /) -> Table:
    """Open an `.arrow` or `.feather` file: an Arrow file (Feather 2), or an Arrow stream. See `Opener`."""
    data = read_bytes(path)
    try:
        source, expansion = pyarrow.BufferReader(data), _expansion(path, data)
        expansion.check(inflated_bytes(data))
        opened = pyarrow.ipc.open_file(source) if data.startswith(b"ARROW1") else pyarrow.ipc.open_stream(source)
        return _table(_checked_batches(opened), opened.schema, columns, expansion)
    except MemoryError:
        raise DataError(f"{path}: it does not fit in memory: {_REMEDY}") from None
    except (OSError, ValueError, LookupError, pyarrow.ArrowException):
        raise DataError(f"{path}: not a readable Arrow file: export it again") from None


def _expansion(path: Path, data: bytes) -> Expansion:
    """Return the limit of a file that need not be compressed: it may be larger than any expanded one."""
    expansion = Expansion(path, len(data), _REMEDY)
    expansion.most = max(expansion.most, 2 * len(data))
    return expansion


def _planned(file: pyarrow.parquet.ParquetFile, wanted: Collection[str], expansion: Expansion) -> tuple[list[str], int]:
    """Return the columns to read as texts that are stored once, and the number of rows to read at a time.

    Raises:
        DataError: The file's own description says that it expands beyond the limit.
    """
    metadata, schema = file.metadata, file.schema
    leaves = [number for number in range(metadata.num_columns) if schema.column(number).path.split(".")[0] in wanted]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in leaves]
    expansion.check(VALUE_BYTES * max(metadata.num_rows, sum(chunk.num_values for chunk in chunks)))
    expansion.check(sum(chunk.total_uncompressed_size for chunk in chunks))
    texts, repeating = [], [1]
    for number in leaves:
        column, chunks = schema.column(number), [group.column(number) for group in groups]
        encodings = {encoding for chunk in chunks for encoding in chunk.encodings}
        if column.physical_type != "BYTE_ARRAY" or column.logical_type.type == "DECIMAL":
            continue
        if not encodings & _NOT_AS_DICTIONARY:
            texts.append(column.path)
        elif encodings & _REPEATING:
            repeating += [chunk.total_uncompressed_size for chunk in chunks]
    return texts, max(1, min(_BATCH_ROWS, expansion.most // max(repeating)))


def _checked_batches(opened: Any) -> Iterator[pyarrow.RecordBatch]:
    whole = hasattr(opened, "num_record_batches")
    for batch in map(opened.get_batch, range(opened.num_record_batches)) if whole else opened:
        batch.validate(full=True)
        yield batch


def _table(
    batches: Iterable[pyarrow.RecordBatch],
    schema: pyarrow.Schema,
    columns: Collection[str] | None,
    expansion: Expansion,
) -> Table:
    every, names = _flat(schema.empty_table()).schema.names, _label_names(schema)
    if len(set(every)) < len(every):
        raise ValueError("a column name is repeated")
    chosen = [name for name in every if columns is None or name in columns]
    values: dict[str, list[object]] = {name: [] for name in chosen}
    total = 0
    for batch in batches:
        table = _flat(pyarrow.Table.from_batches([batch]))
        total += table.num_rows
        for name in chosen:
            for chunk in table.column(name).chunks:
                count(chunk, expansion)
            values[name] += _readable(table.column(name)).to_pylist()
    rows = ((number + 1, {name: column[number] for name, column in values.items()}) for number in range(total))
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

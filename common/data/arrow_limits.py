"""The size of Arrow data once it is Python values, found before anything is expanded.

A small file can stand for far more than it holds: a dictionary whose long text a billion rows name, runs, views that
overlap, columns of nulls, and buffers that are compressed.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.ipc
from numpy.typing import NDArray

from common.data.compressed import Expansion

__all__ = ["VALUE_BYTES", "count", "inflated_bytes"]

VALUE_BYTES = 8
"""Bytes that count for any value, as in a Python list, beside the bytes of a text."""

_DICTIONARY, _BATCH = 2, 3
_BLOCK_BYTES, _END = 24, b"ARROW1"


def count(array: pyarrow.Array, expansion: Expansion) -> None:
    """Count the bytes of an array's values.

    Raises:
        DataError: The file expands beyond its limit.
        ValueError: The array is of a kind that no table of texts has.
    """
    expansion.add(int(_row_bytes(array, expansion).sum()))


def _row_bytes(array: Any, expansion: Expansion) -> NDArray[np.float64]:
    """Return the bytes of each row's value. Floats, because products of hostile numbers exceed 64 bits."""
    expansion.check(VALUE_BYTES * len(array))
    types, kind = pyarrow.types, array.type
    if isinstance(array, pyarrow.ExtensionArray):
        return _row_bytes(array.storage, expansion)
    own = np.full(len(array), float(VALUE_BYTES))
    if types.is_dictionary(kind):
        entries = _row_bytes(array.dictionary, expansion)
        return entries[array.indices.fill_null(0).to_numpy()] if len(entries) else own
    if types.is_run_end_encoded(kind):
        ends = np.clip(array.run_ends.to_numpy().astype(np.int64) - array.offset, 0, len(array))
        return np.repeat(_row_bytes(array.values, expansion), np.diff(ends, prepend=0))
    if types.is_struct(kind):
        return sum((_row_bytes(field, expansion) for field in array.flatten()), own)
    if types.is_map(kind):
        items = _row_bytes(array.keys, expansion) + _row_bytes(array.items, expansion)
        return own + _of_lists(items, array.offsets.to_numpy()[:-1], np.diff(array.offsets.to_numpy()))
    if types.is_list(kind) or types.is_large_list(kind):
        offsets = array.offsets.to_numpy()
        return own + _of_lists(_row_bytes(array.values, expansion), offsets[:-1], np.diff(offsets))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        items = _row_bytes(array.values, expansion)
        return own + _of_lists(items, array.offsets.to_numpy(), array.sizes.to_numpy())
    if types.is_fixed_size_list(kind):
        width = kind.list_size
        items = _row_bytes(array.values.slice(array.offset * width, len(array) * width), expansion)
        sums: NDArray[np.float64] = items.reshape(len(array), width).sum(1)
        return own + sums
    if types.is_string_view(kind) or types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset : 4 * (array.offset + len(array))]
        return own + np.where(array.is_valid(), views[::4], 0)
    if types.is_fixed_size_binary(kind):
        return own + float(kind.byte_width)
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        lengths: NDArray[np.int64] = pyarrow.compute.binary_length(array).fill_null(0).to_numpy()
        return own + lengths
    if types.is_union(kind):
        raise ValueError("a union")
    return own


def _of_lists(items: NDArray[np.float64], begin: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the bytes of the items of each list."""
    sums = np.concatenate(([0.0], np.cumsum(items)))
    return np.where(sizes > 0, sums[begin + np.maximum(sizes, 0)] - sums[begin], 0.0)


def inflated_bytes(data: bytes) -> int:
    """Return the size that the compressed buffers of an Arrow file or stream state. Arrow allocates it before reading.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return sum(map(_inflated, _messages(data)))
    except (struct.error, IndexError):
        raise ValueError("damaged") from None


def _messages(data: bytes) -> Iterator[pyarrow.Message]:
    if not data.startswith(_END):
        yield from pyarrow.ipc.MessageReader.open_stream(pyarrow.BufferReader(data))
        return
    (length,) = struct.unpack_from("<i", data, len(data) - len(_END) - 4)
    footer = data[-len(_END) - 4 - length : -len(_END) - 4]
    root = _offset(footer, 0)
    for number in (2, 3):  # the blocks of dictionaries, and those of rows
        for block in _vector(footer, _field(footer, root, number), _BLOCK_BYTES):
            (position,) = struct.unpack_from("<q", footer, block)
            yield pyarrow.ipc.read_message(pyarrow.BufferReader(memoryview(data)[position:]))


def _inflated(message: pyarrow.Message) -> int:
    head, body = message.metadata.to_pybytes(), message.body
    root = _offset(head, 0)
    kind, batch = _field(head, root, 1), _field(head, root, 2)
    if kind is None or batch is None or head[kind] not in (_DICTIONARY, _BATCH):
        return 0
    batch = _offset(head, batch)
    if head[kind] == _DICTIONARY:
        inner = _field(head, batch, 1)
        batch = _offset(head, inner) if inner is not None else batch
    if _field(head, batch, 3) is None:
        return 0  # not compressed
    total = 0
    for place in _vector(head, _field(head, batch, 2), 16):
        begin, length = struct.unpack_from("<qq", head, place)
        if length >= 8:
            total += max(0, *struct.unpack_from("<q", body, begin), 0)
    return total


# The encoding of Arrow's metadata is flatbuffers: tables of fields that are found through a list of offsets.


def _offset(data: bytes, at: int) -> int:
    (relative,) = struct.unpack_from("<I", data, at)
    return at + int(relative)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return the position of a field of a table, or None if it is absent."""
    (back,) = struct.unpack_from("<i", data, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", data, fields)
    if 4 + 2 * number >= size:
        return None
    (place,) = struct.unpack_from("<H", data, fields + 4 + 2 * number)
    return table + place if place else None


def _vector(data: bytes, field: int | None, size: int) -> Iterator[int]:
    """Yield the positions of the elements of a vector, each of `size` bytes."""
    if field is None:
        return
    begin = _offset(data, field)
    (length,) = struct.unpack_from("<I", data, begin)
    for number in range(length):
        yield begin + 4 + size * number

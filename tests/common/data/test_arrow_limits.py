"""A small Parquet or Arrow file that stands for many gigabytes ends in one line, before it is expanded."""

import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from common.data.arrow_files import open_arrow, open_parquet
from common.data.arrow_limits import count, inflated_bytes
from common.data.compressed import Expansion
from common.errors import DataError

MANY = 100_000
LONG = "x" * 1_000_000
"""A hundred thousand of them are 100 GB."""


def dictionary(size: int = MANY) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(np.zeros(size, np.int32), [LONG])


def views() -> pyarrow.Array:
    """Views of one text."""
    view = struct.pack("<i4sii", len(LONG), b"xxxx", 0, 0)
    buffers = [None, pyarrow.py_buffer(view * MANY), pyarrow.py_buffer(LONG.encode())]
    return pyarrow.Array.from_buffers(pyarrow.string_view(), MANY, buffers)


def list_views() -> pyarrow.Array:
    items = pyarrow.array(["x"] * MANY)
    return pyarrow.ListViewArray.from_arrays(np.zeros(MANY, np.int32), np.full(MANY, MANY, np.int32), items)


BOMBS: dict[str, Callable[[], pyarrow.Array]] = {
    "dictionary": dictionary,
    "list of dictionary": lambda: pyarrow.ListArray.from_arrays(np.arange(MANY + 1, dtype=np.int32), dictionary()),
    "struct of dictionary": lambda: pyarrow.StructArray.from_arrays([dictionary()], ["inner"]),
    "views": views,
    "list views": list_views,
    "runs": lambda: pyarrow.RunEndEncodedArray.from_arrays([MANY], [LONG]),
    "nulls": lambda: pyarrow.nulls(10**9),
}


@pytest.fixture(autouse=True)
def limited_memory() -> Iterator[None]:
    """Three more gigabytes for this process, which a file that is expanded exceeds at once."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(opener: Callable[..., object], path: Path) -> None:
    with pytest.raises(DataError, match=r"it expands to more than \d+ MiB") as caught:
        opener(path, None)
    assert "\n" not in str(caught.value)
    assert "xxxx" not in str(caught.value)


@pytest.mark.parametrize("kind", BOMBS)
def test_an_arrow_file_is_counted_before_it_is_expanded(tmp_path: Path, kind: str) -> None:
    batch = pyarrow.record_batch([BOMBS[kind]()], ["text"])
    with pyarrow.ipc.new_file(tmp_path / "a.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    refused(open_arrow, tmp_path / "a.arrow")


@pytest.mark.parametrize("new", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_compressed_buffers_are_counted_before_they_are_read(
    tmp_path: Path, new: Callable[..., pyarrow.ipc.RecordBatchFileWriter], codec: str, is_dictionary: bool
) -> None:
    text = pyarrow.array(["x" * 300 * 2**20])
    batch = pyarrow.record_batch([text.dictionary_encode() if is_dictionary else text], ["text"])
    path = tmp_path / "a.arrow"
    with new(path, batch.schema, options=pyarrow.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    assert path.stat().st_size < 2**21
    assert inflated_bytes(path.read_bytes()) >= 300 * 2**20
    refused(open_arrow, path)


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_dictionary_is_counted_for_each_row(tmp_path: Path, nested: bool) -> None:
    column = BOMBS["list of dictionary"]() if nested else dictionary()
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    refused(open_parquet, tmp_path / "a.parquet")


def test_compressed_parquet_pages_are_refused_by_the_files_own_description(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["x" * 300 * 2**20]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    refused(open_parquet, tmp_path / "a.parquet")


def test_many_equal_numbers_are_counted_before_they_are_read(tmp_path: Path) -> None:
    with pyarrow.parquet.ParquetWriter(tmp_path / "a.parquet", pyarrow.schema([("n", pyarrow.bool_())])) as writer:
        for _ in range(10):
            writer.write_table(pyarrow.table({"n": pyarrow.array(np.zeros(4_000_000, bool))}))
    refused(open_parquet, tmp_path / "a.parquet")


def test_texts_that_repeat_each_other_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [LONG] * 500})
    path = tmp_path / "a.parquet"
    given = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY", "compression": "zstd"}
    pyarrow.parquet.write_table(table, path, **given)
    refused(open_parquet, path)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pyarrow.array(["ab", None]), 8 + 2 + 8),
        (pyarrow.array(["ab", "ab", "c"]).dictionary_encode(), 10 + 10 + 9),
        (pyarrow.array([["ab"], [], None]), 8 + 10 + 8 + 8),
        (pyarrow.array([["ab"], ["c", "d"]], pyarrow.list_(pyarrow.string())).slice(1), 8 + 9 + 9),
        (pyarrow.array([{"a": "b"}]), 8 + 9),
        (pyarrow.array([[("k", "v")]], pyarrow.map_(pyarrow.string(), pyarrow.string())), 8 + 9 + 9),
        (pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.int8(), 2)), 8 + 16),
        (pyarrow.array(["abc", None], pyarrow.string_view()), 11 + 8),
        (pyarrow.array([1, 2]), 16),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_each_value_counts_with_its_bytes(array: pyarrow.Array, expected: int) -> None:
    expansion = Expansion(Path("a"), 1)
    count(array, expansion)
    assert expansion._bytes == expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"use_dictionary": False},
        {"use_dictionary": ["label"], "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
        {"use_dictionary": ["label"], "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}},
    ],
)
def test_an_ordinary_file_is_read_whole(tmp_path: Path, given: dict[str, object]) -> None:
    table = pyarrow.table({"text": [f"row {number}" for number in range(200_000)], "label": ["up", "down"] * 100_000})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", **given)
    rows = [row for _, row in open_parquet(tmp_path / "a.parquet", None).rows]
    assert rows == table.to_pylist()

"""Parquet, Feather and Arrow files give the values and the label names that they hold."""

import datetime
import json
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from common.data.arrow_files import open_arrow, open_parquet
from common.data.files import open_table
from common.data.tables import read_rows

FILES = ("a.parquet", "a.feather", "a.arrow", "stream.arrow")


def write(path: Path, table: pyarrow.Table) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        open_file = pyarrow.ipc.new_stream if path.name.startswith("stream") else pyarrow.ipc.new_file
        with open_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


MOMENT = datetime.datetime(2021, 3, 4, 5, 6, 7)
NUMBER = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pyarrow.array([Decimal(17), None], pyarrow.decimal128(38, 0)), ["17", ""]),
        (pyarrow.array([Decimal("17.00"), Decimal("1.50")], pyarrow.decimal128(10, 2)), ["17", "1.50"]),
        (pyarrow.array([Decimal(10**40)], pyarrow.decimal256(60, 0)), [str(10**40)]),
        (pyarrow.array([datetime.date(2021, 1, 1), None]), ["2021-01-01", ""]),
        (pyarrow.array([datetime.datetime(2021, 1, 1), MOMENT]), ["2021-01-01", "2021-03-04 05:06:07"]),
        (pyarrow.array([10**18 + 1], pyarrow.timestamp("ns")), ["2001-09-09 01:46:40"]),
        (pyarrow.array([MOMENT], pyarrow.timestamp("s", "UTC")), ["2021-03-04 05:06:07+00:00"]),
        (pyarrow.array([datetime.time(5, 6)]), ["05:06:00"]),
        (pyarrow.array([b"Gewinn f\xc3\xa4llt"], pyarrow.binary()), ["Gewinn fällt"]),
        (pyarrow.array(["up", None], pyarrow.large_string()), ["up", ""]),
        (pyarrow.array(["up", "up"]).dictionary_encode(), ["up", "up"]),
        (pyarrow.array([3, None], pyarrow.int64()), ["3", ""]),
        (pyarrow.array([255], pyarrow.uint8()), ["255"]),
        (pyarrow.array([1.5], pyarrow.float32()), ["1.5"]),
        (pyarrow.array([True]), ["True"]),
        (pyarrow.nulls(1), [""]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", FILES)
def test_values_of_every_type_are_read_as_their_text(
    tmp_path: Path, name: str, column: pyarrow.Array, expected: list[str]
) -> None:
    path = write(tmp_path / name, pyarrow.table({"value": column}))
    assert [row["value"] for row in read_rows(path)] == expected


def test_an_identifier_of_parquets_own_kind_is_its_text(tmp_path: Path) -> None:
    column = pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), pyarrow.array([NUMBER.bytes], pyarrow.binary(16)))
    path = write(tmp_path / "a.feather", pyarrow.table({"value": column}))
    assert read_rows(path) == [{"value": str(NUMBER)}]


def features(label: object) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": {"label": label}}}).encode()}


CLASS = {"names": ["down", "up"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    "label",
    [
        CLASS,
        {"feature": CLASS, "_type": "Sequence"},
        {"feature": CLASS, "_type": "List"},
        {"feature": CLASS, "length": -1, "_type": "LargeList"},
        {"feature": {"feature": CLASS, "_type": "List"}, "_type": "List"},
        [CLASS],
    ],
    ids=["one", "Sequence", "List", "LargeList", "list of lists", "oldest"],
)
@pytest.mark.parametrize("name", FILES)
def test_the_label_names_in_a_schema_are_found(tmp_path: Path, name: str, label: object) -> None:
    table = pyarrow.table({"text": ["a"], "label": [1]}).replace_schema_metadata(features(label))
    assert open_table(write(tmp_path / name, table)).label_names == {"label": ("down", "up")}


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}', b'{"info": {}}'])
def test_a_schemas_damaged_record_of_names_is_none(tmp_path: Path, record: bytes) -> None:
    table = pyarrow.table({"label": [1]}).replace_schema_metadata({b"huggingface": record})
    assert open_table(write(tmp_path / "a.parquet", table)).label_names == {}


@pytest.mark.parametrize("name", FILES)
def test_nested_columns_have_dotted_names(tmp_path: Path, name: str) -> None:
    rows = [{"id": 1, "meta": {"desk": {"name": "rates"}, "label": 1}}]
    nested = {b"huggingface": json.dumps({"info": {"features": {"meta": {"label": CLASS}}}}).encode()}
    path = write(tmp_path / name, pyarrow.Table.from_pylist(rows).replace_schema_metadata(nested))
    assert read_rows(path, ("meta.desk.name", "meta.label")) == [{"meta.desk.name": "rates", "meta.label": "1"}]
    assert open_table(path).label_names == {"meta.label": ("down", "up")}


def test_columns_that_nobody_asked_for_are_known_and_not_read(tmp_path: Path) -> None:
    for opener, name in ((open_parquet, "a.parquet"), (open_arrow, "a.feather")):
        table = opener(write(tmp_path / name, pyarrow.table({"text": ["a"], "other": [{"b": 1}]})), ("text",))
        assert table.columns == ("text", "other.b")
        assert list(table.rows) == [(1, {"text": "a"})]

"""Tables become rows, or one line that names file, row and column and never the text."""

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from common.data.datasets import Dataset, Example, validate
from common.data.reading import read_labelled
from common.data.tables import read_rows
from common.errors import DataError

SECRET = "zxq-secret-phrase"
ROWS = [
    {"text": 'Profit, "net", rises\nagain', "label": "up"},
    {"text": "Müller & Söhne fällt", "label": "down"},
    {"text": "line\u2028separator", "label": "up"},
]


def read_examples(
    path: Path, text: str, label: str, labels: tuple[str, ...] = (), customer: str | None = None
) -> Dataset:
    rows = read_labelled(path, "document_classification", text, label, labels, customer_column=customer)
    validate(rows)
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """The same rows in each format, written independently of the reader."""
    gap = "\t" if ".tsv" in path.suffixes else ","
    quoted = [f"text{gap}label", *('"' + r["text"].replace('"', '""') + '"' + gap + r["label"] for r in rows)]
    lines = [json.dumps(r, ensure_ascii=False) for r in rows]
    if {".csv", ".tsv"} & set(path.suffixes):
        data = ("\r\n".join(quoted) + "\r\n").encode("utf-8-sig")
    else:
        data = ("\n".join(lines) + "\n").encode()
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.feather"]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    assert read_rows(path) == ROWS
    dataset = read_examples(path, "text", "label")
    assert dataset.labels == ("down", "up")
    assert dataset.examples[1] == Example("Müller & Söhne fällt", 0)
    assert dataset.label_counts() == (1, 2)


BAD = {
    "empty file": ("a.csv", b"", "empty"),
    "header only": ("a.csv", b"text,label\n", "no rows"),
    "short row": ("a.csv", f"text,label\nok,up\n{SECRET}\n".encode(), "row 2 has 1 columns"),
    "unterminated quote": ("a.csv", f'text,label\nok,up\nb,"{SECRET}\nx,y\n'.encode(), "row 2 is not valid CSV"),
    "stray quote": ("a.csv", f'text,label\n"a"{SECRET},up\n'.encode(), "row 1 is not valid CSV"),
    "repeated column": ("a.csv", b"text,text\na,b\n", "repeated column"),
    "missing text column": (
        "a.csv",
        f"body,label\n{SECRET},up\n".encode(),
        '"text" is missing: the file has body, label',
    ),
    "missing label column": ("a.jsonl", b'{"text": "a"}\n', '"label" is missing'),
    "empty text": ("a.csv", b"text,label\nok,up\n  ,down\n", 'row 2, column "text" is empty'),
    "empty label": ("a.csv", f"text,label\n{SECRET},\n".encode(), 'row 1, column "label" is empty'),
    "null in JSON": ("a.jsonl", b'{"text": "a", "label": "u"}\n{"text": null, "label": "u"}\n', 'row 2, column "text"'),
    "absent key": ("a.jsonl", b'{"text": "a", "label": "u"}\n{"label": "u"}\n', 'row 2, column "text" is empty'),
    "numbers as text": ("a.csv", b"text,label\n1.5,up\n7%,down\n", '"text" holds only numbers'),
    "JSON numbers as text": ("a.jsonl", b'{"text": 3, "label": "u"}\n', '"text" holds only numbers'),
    "one label": ("a.csv", f"text,label\n{SECRET},up\nb,up\n".encode(), "all examples carry one label"),
    "not UTF-8": ("a.csv", b"text,label\nok,up\n\xff\xfe,up\n", 'row 2, column "text" is not UTF-8'),
    "header not UTF-8": ("a.csv", b"te\xffxt,label\nok,up\n", "is not UTF-8"),
    "lone surrogate": ("a.jsonl", b'{"text": "\\ud800", "label": "u"}\n', 'row 1, column "text" is not UTF-8'),
    "broken JSON": ("a.jsonl", b'{"text": "a", "label": "u"}\n{"text": "' + SECRET.encode(), "row 2 is not valid JSON"),
    "JSON list": ("a.jsonl", b'["' + SECRET.encode() + b'"]', "row 1 is not a JSON object"),
    "nested value": (
        "a.jsonl",
        b'{"text": ["' + SECRET.encode() + b'"], "label": "u"}',
        'row 1, column "text" is neither',
    ),
    "deep JSON": ("a.jsonl", b"[" * 200_000, "row 1 is not valid JSON"),
    "not gzip": ("a.csv.gz", b"text,label\n", "gzip data is damaged"),
    "cut gzip": ("a.csv.gz", gzip.compress(b"text,label\na,b\n" * 99)[:-12], "gzip data is damaged"),
    "not Parquet": ("a.parquet", b"PAR1" + SECRET.encode(), "not a readable Parquet file"),
    "unknown format": ("a.pdf", b"", "unknown format"),
    "empty workbook": ("a.xlsx", b"", "empty"),
    "gzipped Parquet, empty": ("a.parquet.gz", b"", "the file is empty"),
    "gzipped Parquet, damaged": ("a.parquet.gz", gzip.compress(SECRET.encode()), "not a readable Parquet file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_one_line_naming_file_and_place_but_no_text(tmp_path: Path, case: str) -> None:
    name, data, expected = BAD[case]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as raised:
        read_examples(path, "text", "label")
    message = str(raised.value)
    assert expected in message
    assert str(path) in message
    assert SECRET not in message
    assert "\n" not in message
    message.encode()
    # A cause's traceback would print the text that the message withholds.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_data_frames_index_and_an_annual_report_are_read(tmp_path: Path) -> None:
    report = "profit " * 50_000
    (tmp_path / "a.csv").write_text(f",text,label\n0,{report},up\n1,loss,down\n")
    assert read_rows(tmp_path / "a.csv") == [{"text": report, "label": "up"}, {"text": "loss", "label": "down"}]


def test_absent_file_and_directory_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for name in ("absent.csv", "absent.parquet", "d.csv"):
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name)


def test_missing_parquet_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(DataError, match='"body" is missing'):
        read_examples(path, "body", "label")


def test_label_outside_the_given_set_is_refused_by_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    assert read_examples(path, "text", "label", ("up", "down", "flat")).labels == ("up", "down", "flat")
    with pytest.raises(
        DataError,
        match=r'row 2, column "label" holds a label that is not one of up, flat: correct the row, or leave it out$',
    ):
        read_examples(path, "text", "label", ("up", "flat"))


def test_rows_carry_their_customer_and_customers_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,who\nsales rose,up,c1\nsales fell,down, c2\nsales grew,up,c1 \n")
    dataset = read_examples(path, "text", "label", customer="who")
    assert [e.customer for e in dataset.examples] == ["c1", "c2", "c1"]
    assert (dataset.units("record"), dataset.units("customer")) == (3, 2)
    plain = read_examples(path, "text", "label")
    assert plain.fingerprint(b"k") == dataset.fingerprint(b"k")
    with pytest.raises(DataError, match="rows carry no customer"):
        plain.units("customer")
    path.write_text("text,label,who\nsales rose,up,c1\nsales fell,down, \n")
    with pytest.raises(DataError, match='row 2, column "who" is empty'):
        read_examples(path, "text", "label", customer="who")

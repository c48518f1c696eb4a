"""Files become examples, or one line that names file, row and column and never the text."""

import gzip
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.datasets import (
    Dataset,
    Example,
    TokenExample,
    duplicates,
    labels_of,
    read_conll,
    read_conll_documents,
    read_examples,
    read_rows,
    validate,
)
from common.data.tables import class_names, read_lists
from common.errors import DataError

SECRET = "zxq-secret-phrase"
ROWS = [
    {"text": 'Profit, "net", rises\nagain', "label": "up"},
    {"text": "Müller & Söhne fällt", "label": "down"},
    {"text": "line\u2028separator", "label": "up"},
]


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


def test_lists_are_read_from_json_lines_and_parquet_and_refused_elsewhere(tmp_path: Path) -> None:
    rows = [{"tokens": ["Profit", "of", "7"], "tags": [0, 0, 1], "other": 1}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        found = read_lists(tmp_path / name, ("tokens", "tags"))
        assert found == [{"tokens": ["Profit", "of", "7"], "tags": ["0", "0", "1"]}]
        with pytest.raises(DataError, match='row 1, column "other" is not a list'):
            read_lists(tmp_path / name, ("other",))
        with pytest.raises(DataError, match='"absent" is missing'):
            read_lists(tmp_path / name, ("absent",))
    with pytest.raises(DataError, match=r"a\.csv: a \.csv file holds no lists"):
        read_lists(tmp_path / "a.csv", ("tokens",))


def test_the_names_that_datasets_recorded_are_found_and_a_damaged_record_is_none(tmp_path: Path) -> None:
    names = ["negative", "neutral", "positive"]
    features = {"label": {"names": names}, "ner_tags": {"feature": {"names": ["O", "B-ORG"]}}, "text": {}}
    for record, found in (({"info": {"features": features}}, tuple(names)), ({"info": 3}, None), (None, None)):
        table = pyarrow.Table.from_pylist([{"text": "a", "label": 0}])
        if record is not None:
            table = table.replace_schema_metadata({"huggingface": json.dumps(record)})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        assert class_names(tmp_path / "a.parquet", "label") == found
        assert class_names(tmp_path / "a.parquet", "ner_tags") == (found and ("O", "B-ORG"))
        assert class_names(tmp_path / "a.parquet", "text") is None
    assert class_names(tmp_path / "absent.parquet", "label") is None


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


def test_numeric_labels_are_ordered_as_numbers() -> None:
    assert labels_of(["10", "9", "-1", " 9 "]) == ("-1", "9", "10")
    assert labels_of(["10", "9", "1,000"]) == ("1,000", "10", "9")


TEXTS = st.text(max_size=8)
EXAMPLES = st.lists(st.builds(Example, TEXTS, st.integers(0, 2)), max_size=6)


@given(EXAMPLES, EXAMPLES, st.randoms(use_true_random=False))
def test_fingerprint_is_equal_exactly_for_equal_multisets(
    one: list[Example], two: list[Example], rng: random.Random
) -> None:
    labels = ("a", "b", "c")
    shuffled = rng.sample(one, len(one))
    prints = [Dataset(tuple(rows), labels, "x").fingerprint(b"key") for rows in (one, shuffled, two)]
    assert prints[0] == prints[1]
    assert (prints[0] == prints[2]) == (sorted(map(repr, one)) == sorted(map(repr, two)))


def test_fingerprint_depends_on_key_and_meaning_of_labels_but_not_on_name() -> None:
    rows = (Example("a", 0),)
    base = Dataset(rows, ("u", "d"), "x").fingerprint(b"k")
    assert base == Dataset(rows, ("u", "d"), "y").fingerprint(b"k")
    assert base == Dataset((Example("a", 1),), ("d", "u"), "x").fingerprint(b"k")
    assert base != Dataset(rows, ("u", "d"), "x").fingerprint(b"l")
    assert base != Dataset(rows, ("d", "u"), "x").fingerprint(b"k")
    assert base != Dataset((TokenExample(("a",), (0,)),), ("u", "d"), "x").fingerprint(b"k")


def test_duplicates_are_counted_and_logged_without_text(caplog: pytest.LogCaptureFixture) -> None:
    dataset = Dataset((Example(SECRET, 0), Example(SECRET, 1), Example("b", 1)), ("u", "d"), "books")
    assert duplicates(dataset) == 1
    validate(dataset)
    assert "books: 1 of 3 examples are duplicates" in caplog.text
    assert SECRET not in caplog.text


CONLL = "-DOCSTART- -X- O O\n\nThe DT - O\nBank NNP - I-ORG\n\npays VB - O\n-DOCSTART- -X- O O\n\nAlice NNP - I-PER\r\n"


def test_rows_carry_their_customer_and_customers_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,who\nsales rose,up,c1\nsales fell,down, c2\nsales grew,up,c1 \n")
    dataset = read_examples(path, "text", "label", customer_column="who")
    assert [e.customer for e in dataset.examples] == ["c1", "c2", "c1"]
    assert (dataset.units("record"), dataset.units("customer")) == (3, 2)
    plain = read_examples(path, "text", "label")
    assert plain.fingerprint(b"k") == dataset.fingerprint(b"k")
    with pytest.raises(DataError, match="rows carry no customer"):
        plain.units("customer")
    path.write_text("text,label,who\nsales rose,up,c1\nsales fell,down, \n")
    with pytest.raises(DataError, match='row 2, column "who" is empty'):
        read_examples(path, "text", "label", customer_column="who")


def test_conll_gives_sentences_tags_and_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(CONLL)
    dataset = read_conll(path)
    assert dataset.labels == ("O", "I-ORG", "I-PER")
    assert dataset.examples == (
        TokenExample(("The", "Bank"), (0, 1), "document_1"),
        TokenExample(("pays",), (0,), "document_1"),
        TokenExample(("Alice",), (2,), "document_2"),
    )
    assert [len(d) for d in read_conll_documents(path)] == [2, 1]
    assert dataset.units("customer") == 2
    assert dataset.label_counts() == (2, 1, 1)


def test_tags_that_mark_ends_and_single_words_are_read_as_iob(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A S-X\nof O\nB B-X\nC I-X\nD E-X\n\nE U-Y\nF B-Y\nG L-Y\n")
    dataset = read_conll(path)
    tags = [[dataset.labels[tag] for tag in example.labels] for example in dataset.examples]
    assert tags == [["B-X", "O", "B-X", "I-X", "I-X"], ["B-Y", "B-Y", "I-Y"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"The O\n{SECRET}\n", "row 2 has a word and no tag"),
        (f"The O\n{SECRET} DT\n", "row 2, last column holds a tag that is not O, B-type or I-type"),
        (f"# {SECRET} = 1\n", "row 1, last column holds a tag that is not O"),
        (
            f"The O\n{SECRET} B-X\n",
            "row 2, last column holds a tag that is not one of O, I-ORG: correct the row, or leave it out",
        ),
        ("\n\n-DOCSTART- O\n\n", "no sentences"),
        ("a O\n", "all examples carry one label"),
        ("", "empty"),
    ],
)
def test_bad_conll_is_named_by_row(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=expected) as raised:
        read_conll(path, ("O", "I-ORG"))
    assert SECRET not in str(raised.value)

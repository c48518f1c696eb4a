"""Every path reads the same rows from the same file, whatever its format, and labels keep their meaning."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from common.data.datasets import Dataset, Example, TokenExample
from common.data.labels import read_label_file
from common.data.reading import read_labelled
from common.data.unlabelled import read_texts
from common.errors import DataError
from common.tasks import task

SENTIMENT, RISK, DOCUMENT = task("sentiment_analysis"), task("risk_classification"), task("document_classification")
NER = task("financial_ner")


def rows(*texts: str, labels: int = 2) -> Dataset:
    names = tuple(f"label {index}" for index in range(labels))
    return Dataset(tuple(Example(text, index % labels) for index, text in enumerate(texts)), names, "rows")


def written(tmp_path: Path, labels: list[str]) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"text {index},{label}\n" for index, label in enumerate(labels)))
    return path


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (SENTIMENT, ["positive", "negative"], ("negative", "neutral", "positive")),
        (SENTIMENT, ["Positive", "Neutral", "Negative"], ("Negative", "Neutral", "Positive")),
        (SENTIMENT, ["bullish", "bearish"], ("bearish", "bullish")),
        (RISK, ["Very High", "Low", "Medium", "Very Low", "High"], ("Very Low", "Low", "Medium", "High", "Very High")),
        (RISK, ["10", "9", "2"], ("2", "9", "10")),
        (DOCUMENT, ["report", "contract"], ("contract", "report")),
    ],
)
def test_labels_come_from_the_file_in_the_tasks_order_where_they_are_its_own(
    tmp_path: Path, kind: object, given: list[str], expected: tuple[str, ...]
) -> None:
    assert read_labelled(written(tmp_path, given), kind).labels == expected


def test_a_label_file_decides_the_order(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("report\ncontract\n")
    labels = read_label_file(tmp_path / "labels.txt")
    assert read_labelled(written(tmp_path, ["contract", "report"]), DOCUMENT, labels=labels).labels == labels


def test_numbers_stand_for_the_names_that_are_known(tmp_path: Path) -> None:
    names = ("loss", "gain")
    assert read_labelled(written(tmp_path, ["1", "0"]), DOCUMENT, labels=names) == replace(
        rows("text 0", "text 1"),
        examples=(Example("text 0", 1), Example("text 1", 0)),
        labels=names,
        name=str(tmp_path / "rows.csv"),
    )
    assert read_labelled(written(tmp_path, ["1", "2"]), DOCUMENT, labels=("2", "1")).examples[0].label == 1
    with pytest.raises(DataError, match='row 2, column "label" holds a label that is not one of loss, gain'):
        read_labelled(written(tmp_path, ["1", "2"]), DOCUMENT, labels=names)


def test_what_datasets_writes_is_read_with_its_names_in_their_order(tmp_path: Path) -> None:
    from datasets import ClassLabel, Features, Sequence, Value
    from datasets import Dataset as Table

    def labelled(kind: object, **columns: list[object]) -> Path:
        name = next(iter(columns))
        first = Value("string") if name == "text" else Sequence(Value("string"))
        features = Features(dict(zip(columns, (first, kind), strict=True)))
        Table.from_dict(columns, features=features).to_parquet(tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    texts = labelled(ClassLabel(names=["up", "down", "flat"]), text=["a", "b"], label=[2, 1])
    assert read_labelled(texts, SENTIMENT).labels == ("up", "down", "flat")
    assert [e.label for e in read_labelled(texts, SENTIMENT).examples if isinstance(e, Example)] == [2, 1]
    tags = Sequence(ClassLabel(names=["O", "B-ORG", "I-ORG"]))
    words = labelled(tags, tokens=[["A", "B"], ["c"]], ner_tags=[[1, 2], [0]])
    dataset = read_labelled(words, NER)
    assert dataset.labels == ("O", "B-ORG", "I-ORG")
    assert dataset.examples == (TokenExample(("A", "B"), (1, 2)), TokenExample(("c",), (0,)))


def listed(tmp_path: Path, *rows: dict[str, list[object]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lists_of_words_and_tags_are_sentences(tmp_path: Path) -> None:
    path = listed(tmp_path, {"tokens": ["A", "B"], "ner_tags": ["B-X", "E-X"]}, {"tokens": ["c"], "ner_tags": ["O"]})
    dataset = read_labelled(path, NER)
    assert dataset.labels == ("O", "B-X", "I-X")
    assert dataset.examples == (TokenExample(("A", "B"), (1, 2)), TokenExample(("c",), (0,)))
    numbers = listed(tmp_path, {"tokens": ["A", "B"], "ner_tags": [1, 2]})
    assert read_labelled(numbers, NER, labels=("O", "B-X", "I-X")).examples == dataset.examples[:1]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": ["A", "B"], "ner_tags": ["O"]}, "row 1: give one tag for each word"),
        ({"tokens": [], "ner_tags": []}, "row 1: give one tag for each word"),
        ({"tokens": ["A", " "], "ner_tags": ["O", "O"]}, "no empty word"),
        ({"tokens": ["A"], "ner_tags": [3]}, r"not O, B-type or I-type \(numbers need --labels\)"),
        ({"tokens": "A B", "ner_tags": ["O", "O"]}, 'row 1, column "tokens" is not a list'),
        ({"words": ["A"], "ner_tags": ["O"]}, 'column "tokens" is missing: the file has ner_tags, words'),
    ],
)
def test_lists_that_are_no_sentence_are_refused(tmp_path: Path, row: dict[str, list[object]], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        read_labelled(listed(tmp_path, row), NER)


def test_labels_that_are_no_tags_and_a_table_of_words_are_refused(tmp_path: Path) -> None:
    path = listed(tmp_path, {"tokens": ["A"], "ner_tags": ["B-X"]})
    with pytest.raises(DataError, match="not all of them are tags"):
        read_labelled(path, NER, labels=("up", "down"))
    with pytest.raises(DataError, match="not one of O, B-Y"):
        read_labelled(path, NER, labels=("O", "B-Y"))
    with pytest.raises(DataError, match="as CoNLL"):
        read_labelled(written(tmp_path, ["O", "B-X"]), NER)


def test_rows_with_other_labels_than_the_declared_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nfell,Negative\nrose,positive\nodd,strange\nflat,1\n")
    declared = read_labelled(path, SENTIMENT, labels=SENTIMENT.labels, leave_out_others=True)
    assert declared.labels == SENTIMENT.labels
    assert (declared.left_out, declared.respelled) == ({"rows with other labels": 1}, 1)
    assert [(e.text, e.label) for e in declared.examples if isinstance(e, Example)] == [
        ("fell", 0), ("rose", 2), ("flat", 1)
    ]  # fmt: skip
    assert not declared.labels_from_rows
    path.write_text("text,label\nfell,negative\nrose,positive\n")
    with pytest.raises(DataError, match="no row has one of the labels up, down: name its labels with --labels"):
        read_labelled(path, SENTIMENT, labels=("up", "down"), leave_out_others=True)
    tagged = tmp_path / "rows.txt"
    tagged.write_text("Bank B-ORG\nrose O\n\nAnna B-PER\nleft O\n\n")
    sentences = read_labelled(tagged, NER, labels=("O", "B-ORG"), leave_out_others=True)
    assert [e.words for e in sentences.examples if isinstance(e, TokenExample)] == [("Bank", "rose")]


ROWS = [("fell", 0), ("flat", 1), ("rose", 2), ("soared", 2)]
OTHER = ("positive", "neutral", "negative")
"""The usual labels in another order, as a file may name them."""


def stored(path: Path, rows: list[dict[str, object]], features: object | None) -> Path:
    """Write rows as Hugging Face `datasets` does, with the features in the schema, or as plain lines of JSON."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    from datasets import Dataset as Table

    table = Table.from_list(rows, features=features)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == "":
        table.save_to_disk(path)
    else:
        schema = table.data.table.schema.with_metadata(table.features.arrow_schema.metadata)
        with pyarrow.ipc.new_stream(path, schema) as writer:
            writer.write_table(table.data.table.cast(schema))
    return path


NAMED = ["rows.parquet", "rows.arrow", "folder"]
"""Formats that hold label names: Parquet, Arrow, and the folder that `save_to_disk` writes."""


def class_labels(path: Path, names: tuple[str, ...]) -> Path:
    from datasets import ClassLabel, Features, Value

    places = [names.index(("negative", "neutral", "positive")[label]) for _, label in ROWS]
    rows = [{"text": text, "label": place} for (text, _), place in zip(ROWS, places, strict=True)]
    return stored(path, rows, Features({"text": Value("string"), "label": ClassLabel(names=list(names))}))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("labels", [(), ("negative", "neutral", "positive"), ("neutral", "positive", "negative")])
@pytest.mark.parametrize("private", [False, True])
def test_a_files_own_label_names_decide_what_its_numbers_mean(
    tmp_path: Path, name: str, labels: tuple[str, ...], private: bool
) -> None:
    rows = read_labelled(
        class_labels(tmp_path / name, OTHER), SENTIMENT, labels=labels, leave_out_others=private and bool(labels)
    )
    assert rows.labels == (labels or OTHER)
    assert [rows.labels[each.label] for each in rows.examples] == ["negative", "neutral", "positive", "positive"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("labels", [(), ("O", "B-LOC", "B-ORG", "I-ORG", "I-LOC")])
def test_a_files_own_tag_names_decide_what_its_numbers_mean(tmp_path: Path, name: str, labels: tuple[str, ...]) -> None:
    from datasets import ClassLabel, Features, Sequence, Value

    own = ["O", "B-ORG", "E-ORG", "S-LOC", "I-ORG", "I-LOC"]
    features = Features({"tokens": Sequence(Value("large_string")), "ner_tags": Sequence(ClassLabel(names=own))})
    path = stored(tmp_path / name, [{"tokens": ["A", "B", "in", "C"], "ner_tags": [1, 2, 0, 3]}], features)
    rows = read_labelled(path, NER, labels=labels)
    assert [rows.labels[tag] for tag in rows.examples[0].labels] == ["B-ORG", "I-ORG", "O", "B-LOC"]
    assert rows.labels == (labels or ("O", "B-ORG", "I-ORG", "B-LOC", "I-LOC"))


def test_names_that_are_numbers_name_nothing(tmp_path: Path) -> None:
    """`class_encode_column` turns a column of numbers into such names."""
    from datasets import ClassLabel, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["0", "1", "2"])})
    path = stored(tmp_path / "rows.parquet", [{"text": text, "label": label} for text, label in ROWS], features)
    assert read_labelled(path, DOCUMENT).labels == ("0", "1", "2")
    known = read_labelled(path, SENTIMENT, labels=SENTIMENT.labels)
    assert [known.labels[each.label] for each in known.examples] == ["negative", "neutral", "positive", "positive"]


def test_a_number_without_a_name_and_a_hidden_label_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", "b"], "label": [0, 7]})
    record = {"info": {"features": {"label": {"names": ["up", "down"], "_type": "ClassLabel"}}}}
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(record)}), path)
    with pytest.raises(DataError, match='row 2, column "label" holds a number without a name in the file'):
        read_labelled(path, DOCUMENT)
    table = pyarrow.table({"text": ["a", "b"], "label": [0, -1]})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(record)}), path)
    with pytest.raises(DataError, match=r'row 2, column "label" has no label \(-1\): leave the row out'):
        read_labelled(path, DOCUMENT)


def test_numbers_of_a_test_file_without_names_are_those_of_the_training_file(tmp_path: Path) -> None:
    """The labels of a training file decide the order of outputs, its own names the meaning of numbers."""
    train = read_labelled(class_labels(tmp_path / "rows.parquet", OTHER), SENTIMENT, labels=SENTIMENT.labels)
    (tmp_path / "test.csv").write_text("text,label\nrose,0\nfell,2\n")
    test = read_labelled(tmp_path / "test.csv", SENTIMENT, labels=train.labels, numbered=train.numbered)
    assert [test.labels[each.label] for each in test.examples] == ["positive", "negative"]


WRITTEN = [[1.0, 2.0, 3.0], ["1.0", "2.0", "3.0"], [1, 2, 3], ["1", "2", "3"], ["1", "2.00", "3."]]


@pytest.mark.parametrize("train", WRITTEN)
@pytest.mark.parametrize("test", WRITTEN)
def test_whole_numbers_are_one_label_however_they_are_written(
    tmp_path: Path, train: list[object], test: list[object]
) -> None:
    for name, values in (("train", train), ("test", test)):
        table = pyarrow.table({"text": ["a", "b", "c"], "label": values})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
        lines = [f"{text},{value}\n" for text, value in zip("abc", values, strict=True)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(lines))
    first = read_labelled(tmp_path / "train.parquet", DOCUMENT)
    assert first.labels == ("1", "2", "3")
    for name in ("test.parquet", "test.csv"):
        second = read_labelled(tmp_path / name, DOCUMENT, labels=first.labels)
        assert [each.label for each in second.examples] == [0, 1, 2]
    assert Dataset.of(["x", "y", "z"], train, known=first.labels).label_counts() == (1, 1, 1)


@pytest.mark.parametrize("other", ["Positive", "positive\u200b", "POSITIVE ", "\ufeffpositive", "positive\u00a0"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("labels", [(), ("positive", "negative", "neutral")])
def test_spellings_of_a_label_are_one_label_and_are_counted(
    tmp_path: Path, other: str, name: str, labels: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    written = ["negative", "neutral", "positive", other]
    rows = [{"text": f"text {place}", "label": label} for place, label in enumerate(written)]
    found = read_labelled(stored(tmp_path / name, rows, None), SENTIMENT, labels=labels)
    assert found.labels == (labels or SENTIMENT.labels)
    assert found.examples[2].label == found.examples[3].label
    changed = other.strip().casefold() == "positive" and other.strip() != "positive"
    assert found.respelled == int(changed)
    assert ("1 rows spell a label in another way" in caplog.text) == changed
    assert "text 3" not in caplog.text


def test_numbers_that_stand_for_labels_are_told_with_their_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = read_labelled(written(tmp_path, ["low", "medium", "high"]), DOCUMENT).labels
    caplog.clear()
    found = read_labelled(written(tmp_path, ["2", "0", "low"]), DOCUMENT, labels=levels)
    assert [each.label for each in found.examples] == [2, 0, 1]
    assert "2 rows have a number in place of a label: 0 is high, 1 is low, 2 is medium" in caplog.text
    caplog.clear()
    stars = read_labelled(written(tmp_path, ["1 star", "2 stars", "3 stars"]), DOCUMENT).labels
    assert [each.label for each in read_labelled(written(tmp_path, ["1", "3"]), DOCUMENT, labels=stars).examples] == [
        0,
        2,
    ]
    assert "1 is 1 star, 2 is 2 stars" in caplog.text
    caplog.clear()
    declared = read_labelled(written(tmp_path, ["1", "0"]), DOCUMENT, labels=levels, numbered=("low", "medium", "high"))
    assert [each.label for each in declared.examples] == [2, 1]
    assert not caplog.text


def test_labels_that_are_declared_apart_stay_apart(tmp_path: Path) -> None:
    path = written(tmp_path, ["US", "us"])
    assert read_labelled(path, DOCUMENT, labels=("US", "us")).label_counts() == (1, 1)
    with pytest.raises(DataError, match='row 1, column "label" holds a label that is not one of US, us'):
        read_labelled(written(tmp_path, ["Us"]), DOCUMENT, labels=("US", "us"))


def test_rows_without_any_value_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, object]] = [
        {"text": "fell", "label": "down"},
        {"text": None, "label": None},
        {"text": "rose", "label": "up"},
        {"text": " ", "label": ""},
    ]
    found = read_labelled(stored(tmp_path / "rows.jsonl", rows, None), DOCUMENT)
    assert found.label_counts() == (1, 1)
    assert found.left_out == {"rows without any value": 2}
    assert "left out: 2 rows without any value" in caplog.text
    (tmp_path / "a.csv").write_text("text,label,id\nfell,down,1\n,,\nrose,up,2\n,,\n")
    assert read_labelled(tmp_path / "a.csv", DOCUMENT).label_counts() == (1, 1)
    (tmp_path / "a.csv").write_text("text,label,id\nfell,down,1\n,,2\n")
    with pytest.raises(DataError, match='row 2, column "text" is empty'):
        read_labelled(tmp_path / "a.csv", DOCUMENT)


@pytest.mark.parametrize("value", [None, "", "  "])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_row_without_a_label_is_named(tmp_path: Path, value: object, name: str) -> None:
    path = stored(tmp_path / name, [{"text": "a", "label": "up"}, {"text": "b", "label": value}], None)
    with pytest.raises(DataError, match='row 2, column "label" is empty'):
        read_labelled(path, DOCUMENT)


def test_texts_in_hidden_folders_are_no_rows_and_no_labels(tmp_path: Path) -> None:
    for name in ("up/a.txt", "down/b.txt", "down/.ipynb_checkpoints/b-checkpoint.txt", ".git/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    assert read_labelled(tmp_path, "document_classification").labels == ("down", "up")


@pytest.mark.parametrize("name", ["README.md", "train/up/c.txt"])
def test_a_text_outside_of_the_folders_of_labels_is_named(tmp_path: Path, name: str) -> None:
    for place in ("up/a.txt", "down/b.txt", name):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("zxq secret")
    with pytest.raises(DataError, match="it is in no folder that names its label") as caught:
        read_labelled(tmp_path, "document_classification")
    assert "secret" not in str(caught.value)


def test_a_folder_and_a_pattern_of_files_are_one_data_set(tmp_path: Path) -> None:
    for number, label in enumerate(("up", "down")):
        (tmp_path / f"train-{number}.csv").write_text(f"text,label\ntext {number},{label}\n")
    whole = read_labelled(tmp_path, DOCUMENT)
    assert [each.text for each in whole.examples] == ["text 0", "text 1"]
    (tmp_path / "test-0.csv").write_text("text,label\nother,up\n")
    assert read_labelled(tmp_path / "train-*.csv", DOCUMENT).examples == whole.examples
    with pytest.raises(DataError, match="it holds training and test files: name a file, or a pattern"):
        read_labelled(tmp_path, DOCUMENT)
    with pytest.raises(DataError, match="no file matches the pattern"):
        read_labelled(tmp_path / "dev-*.csv", DOCUMENT)
    with pytest.raises(DataError, match=r"train-1\.csv: row 1, .* is not one of up, flat"):
        read_labelled(tmp_path / "train-*.csv", DOCUMENT, labels=("up", "flat"))


def test_a_folder_of_texts_has_the_names_of_its_folders_as_labels(tmp_path: Path) -> None:
    for label, text in (("report", "Sales rose."), ("contract", "The parties agree.")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text(text + "\n")
    rows = read_labelled(tmp_path, DOCUMENT)
    assert rows.labels == ("contract", "report")
    assert rows.examples == (Example("The parties agree.", 0), Example("Sales rose.", 1))
    (tmp_path / "contract" / "2.txt").write_bytes(b"\xff\xfa secret")
    with pytest.raises(DataError, match="it is not UTF-8"):
        read_labelled(tmp_path, DOCUMENT)


def test_splits_that_datasets_saved_together_are_named_one_by_one(tmp_path: Path) -> None:
    from datasets import Dataset as Table
    from datasets import DatasetDict

    rows = Table.from_list([{"text": "a", "label": "up"}, {"text": "b", "label": "down"}])
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match="it holds several splits: name one of its folders"):
        read_labelled(tmp_path / "both", DOCUMENT)
    assert read_labelled(tmp_path / "both" / "train", DOCUMENT).labels == ("down", "up")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_words_in_lists_carry_their_customers(tmp_path: Path, name: str) -> None:
    rows = [{"tokens": ["A"], "ner_tags": ["B-X"], "who": 7}, {"tokens": ["b"], "ner_tags": ["O"], "who": 8}]
    found = read_labelled(stored(tmp_path / name, rows, None), NER, customer_column="who")
    assert [each.customer for each in found.examples] == ["7", "8"]


def test_documents_of_several_conll_files_are_other_customers(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Bank B-ORG\nrose O\n\n")
    rows = read_labelled(tmp_path, NER)
    assert rows.units("customer") == 2


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text\nfell\nrose\n", ["fell", "rose"]),
        ("a.jsonl", '{"tokens": ["10\u00a0000", "euro"]}\n', [("10\u00a0000", "euro")]),
        ("a.txt", "fell\nrose\n", ["fell", "rose"]),
        ("a.conll", "Bank B-ORG\nrose O\n\nfell O\n", [("Bank", "rose"), ("fell",)]),
    ],
)
def test_texts_to_predict_are_read_from_the_same_files(
    tmp_path: Path, name: str, content: str, expected: list[object]
) -> None:
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\nfell\n \n", "row 2 is empty"),
        ("a.csv", "sentence\nfell\n", 'column "text" is missing: the file has sentence'),
        ("a.jsonl", '{"tokens": ["a", " "]}\n', "row 1 is empty"),
        ("a.txt", "fell\n\nrose\n", "row 2 is empty"),
    ],
)
def test_a_row_without_a_text_is_not_predicted(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)

"""The rows of a job: no test row is trained on, labels keep their order, the hold-out is fair."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.finetune.data import hold_out, read_label_file, read_labelled, remove_test_rows
from client.finetune.job import FineTuningJob, PrivacyOptions, TaskData
from common.data.datasets import Dataset, Example, TokenExample
from common.errors import ConfigurationError, DataError
from common.evaluation.metrics import ConfusionMatrix
from common.evaluation.task_metrics import high_risk_levels, selection_metric, task_metrics
from common.tasks import task

SENTIMENT, RISK, DOCUMENT = task("sentiment_analysis"), task("risk_classification"), task("document_classification")
NER = task("financial_ner")


def rows(*texts: str, labels: int = 2) -> Dataset:
    names = tuple(f"label {index}" for index in range(labels))
    return Dataset(tuple(Example(text, index % labels) for index, text in enumerate(texts)), names, "rows")


def test_training_rows_that_are_in_the_test_are_left_out_of_the_training() -> None:
    train, dropped = remove_test_rows(rows("a", "b", "c", "a", "d"), rows("a", "x", "y"))
    assert [e.text for e in train.examples if isinstance(e, Example)] == ["b", "c", "d"]
    assert dropped == 2


def test_a_test_set_that_is_mostly_training_rows_is_refused() -> None:
    with pytest.raises(DataError, match="2 of its 3 different texts are among the training rows"):
        remove_test_rows(rows("a", "b", "c"), rows("a", "b", "x"))


@given(st.integers(200, 900), st.integers(2, 5), st.integers(0, 5))
def test_what_is_held_out_has_no_text_of_the_rest_and_the_labels_shares(count: int, labels: int, seed: int) -> None:
    data = rows(*[f"text {index % (count - 7)}" for index in range(count)], labels=labels)
    train, held = hold_out(data, 0.3, seed)
    assert held is not None
    texts = [{e.text for e in part.examples if isinstance(e, Example)} for part in (train, held)]
    assert not texts[0] & texts[1]
    assert len(train) + len(held) == len(data)
    for whole, part in zip(data.label_counts(), held.label_counts(), strict=True):
        assert part == pytest.approx(0.3 * whole, abs=9)


def test_too_few_rows_hold_nothing_out() -> None:
    data = rows(*[f"text {index}" for index in range(450)])
    assert hold_out(data, 0.1, 0) == (data, None)


def test_of_many_labels_with_few_rows_many_are_held_out_and_none_is_lost_to_the_training() -> None:
    data = rows(*[f"text {index}" for index in range(602)], labels=75)  # of two labels nine rows, of the others eight
    rare = replace(
        data, examples=(*data.examples, Example("rare", 75), Example("rarer", 76)), labels=(*data.labels, "r", "s")
    )
    train, held = hold_out(rare, 0.1, 0)
    assert held is not None
    assert len(held) == 60
    assert sum(count > 0 for count in held.label_counts()) == 60, "one row of each of sixty labels"
    assert min(train.label_counts()) == 1


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


def test_epochs_are_judged_by_macro_f1_where_no_label_names_a_high_risk_level() -> None:
    assert selection_metric(RISK, RISK.labels) == "high_risk_macro_f1"
    assert selection_metric(RISK, ("critical", "harmless")) == "macro_f1"
    assert selection_metric(SENTIMENT, ("a", "b")) == "weighted_f1"


def test_high_risk_levels_are_found_by_name_whatever_their_case_and_by_position_where_they_are_numbers() -> None:
    assert high_risk_levels(RISK, ("Low", "High", "Very High")) == (1, 2)
    assert high_risk_levels(RISK, ("1", "2", "3", "4", "5")) == (2, 3, 4)
    assert high_risk_levels(RISK, ("safe", "unsafe")) == ()
    assert high_risk_levels(SENTIMENT, SENTIMENT.labels) == ()


def test_high_risk_macro_f1_is_the_mean_over_the_levels_and_negative_recall_that_of_the_class() -> None:
    counts = ConfusionMatrix.of([0, 1, 2, 2, 3, 4], [0, 1, 2, 1, 4, 4], 5)
    found = task_metrics(RISK, RISK.labels, counts)
    assert found["high_risk_macro_f1"] == pytest.approx((2 / 3 + 0.0 + 2 / 3) / 3)
    sentiment = task_metrics(SENTIMENT, SENTIMENT.labels, ConfusionMatrix.of([0, 0, 1, 2], [0, 1, 1, 2], 3))
    assert sentiment["negative_recall"] == 0.5


def test_rows_with_other_labels_than_the_declared_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nfell,Negative\nrose,positive\nodd,strange\nflat,1\n")
    declared = read_labelled(path, SENTIMENT, labels=SENTIMENT.labels, leave_out_others=True)
    assert declared.labels == SENTIMENT.labels
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


def test_a_private_training_refuses_labels_that_were_collected_from_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nfell,down\nrose,up\n")
    collected = read_labelled(path, DOCUMENT)
    assert collected.labels_from_rows
    declared = read_labelled(path, DOCUMENT, labels=("down", "up"))
    privacy = PrivacyOptions(epsilon=8.0)
    with pytest.raises(ConfigurationError, match="labels must be declared"):
        FineTuningJob(data=(TaskData(DOCUMENT, collected, collected),), out=tmp_path / "out", privacy=privacy)
    assert FineTuningJob(data=(TaskData(DOCUMENT, declared, declared),), out=tmp_path / "out", privacy=privacy)

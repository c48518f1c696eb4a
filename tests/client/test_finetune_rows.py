"""The rows of a job: no test row is trained on, labels keep their order, what is held out is fair."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.finetune.rows import hold_out, read_label_file, read_labelled, without
from common.data import Dataset, Example
from common.errors import DataError
from common.figures import figures, high_risk_levels
from common.metrics import Counts
from common.tasks import task

SENTIMENT, RISK, DOCUMENT = task("sentiment_analysis"), task("risk_classification"), task("document_classification")


def rows(*texts: str, labels: int = 2) -> Dataset:
    names = tuple(f"label {index}" for index in range(labels))
    return Dataset(tuple(Example(text, index % labels) for index, text in enumerate(texts)), names, "rows")


def test_training_rows_that_are_in_the_test_are_left_out_of_the_training() -> None:
    train, dropped = without(rows("a", "b", "c", "a", "d"), rows("a", "x", "y"))
    assert [e.text for e in train.examples if isinstance(e, Example)] == ["b", "c", "d"]
    assert dropped == 2


def test_a_test_set_that_is_mostly_training_rows_is_refused() -> None:
    with pytest.raises(DataError, match="2 of its 3 different texts are among the training rows"):
        without(rows("a", "b", "c"), rows("a", "b", "x"))


@given(st.integers(100, 900), st.integers(2, 5), st.integers(0, 5))
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
    data = rows(*[f"text {index}" for index in range(150)])
    assert hold_out(data, 0.1, 0) == (data, None)


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
    assert read_labelled(kind, written(tmp_path, given)).labels == expected  # type: ignore[arg-type]


def test_a_label_file_decides_the_order(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("report\ncontract\n")
    labels = read_label_file(tmp_path / "labels.txt")
    assert read_labelled(DOCUMENT, written(tmp_path, ["contract", "report"]), labels=labels).labels == labels


def test_high_risk_levels_are_found_by_name_whatever_their_case_and_by_position_where_they_are_numbers() -> None:
    assert high_risk_levels(RISK, ("Low", "High", "Very High")) == (1, 2)
    assert high_risk_levels(RISK, ("1", "2", "3", "4", "5")) == (2, 3, 4)
    assert high_risk_levels(RISK, ("safe", "unsafe")) == ()
    assert high_risk_levels(SENTIMENT, SENTIMENT.labels) == ()


def test_high_risk_macro_f1_is_the_mean_over_the_levels_and_negative_recall_that_of_the_class() -> None:
    counts = Counts.of([0, 1, 2, 2, 3, 4], [0, 1, 2, 1, 4, 4], 5)
    found = figures(RISK, RISK.labels, counts)
    assert found["high_risk_macro_f1"] == pytest.approx((2 / 3 + 0.0 + 2 / 3) / 3)
    sentiment = figures(SENTIMENT, SENTIMENT.labels, Counts.of([0, 0, 1, 2], [0, 1, 1, 2], 3))
    assert sentiment["negative_recall"] == 0.5

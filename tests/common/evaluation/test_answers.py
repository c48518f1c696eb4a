"""Written answers are held against the expected ones: as labels if these are a small closed set, else as texts."""

import math

import pytest
from sklearn.metrics import f1_score

from common.errors import DataError
from common.evaluation.answers import Answer, ResponseCounts, label_sets
from common.evaluation.metrics import ConfusionMatrix, headline, total
from common.evaluation.task_metrics import task_metrics
from common.spelling import plain_answer
from common.tasks import task

EXPECTED = ["up", "down", "flat", "up", "down", "flat", "up", "down"]
WRITTEN = ["Up.", "down", "flat", "down", "down", "It rose", "up", "up"]


def counts(expected: list[str], written: list[str], kind: str | None = "direction") -> ResponseCounts:
    pairs = tuple(Answer(*pair, kind) for pair in zip(expected, written, strict=True))
    return ResponseCounts(10, 6, 20.0, pairs)


def test_labels_are_counted_as_scikit_learn_counts_them_and_another_text_is_no_label() -> None:
    figures = counts(EXPECTED, WRITTEN).figures()
    plain = ["up", "down", "flat", "down", "down", "none", "up", "up"]
    assert figures["accuracy"] == 5 / 8
    assert figures["valid_answers"] == 7 / 8
    assert figures["macro_f1"] == pytest.approx(
        f1_score(EXPECTED, plain, labels=["up", "down", "flat"], average="macro")
    )
    assert figures["perplexity"] == pytest.approx(math.exp(2.0))
    assert "rouge_l" not in figures


def test_the_same_word_is_a_label_of_its_own_for_each_kind_of_question() -> None:
    both = counts(EXPECTED, EXPECTED) + counts(["a", "b"] * 2, ["up", "b", "a", "b"], "grade")
    figures = both.figures()
    assert figures["valid_answers"] == 11 / 12, "up is no grade"
    assert figures["accuracy"] == 11 / 12
    assert len(label_sets(both.answers)) == 2


def test_declared_answers_are_the_labels_whatever_the_rows_hold_and_each_kind_has_figures_of_its_own() -> None:
    rise = [Answer("up", text, "rise", ("up", "down")) for text in ("Down.", "sideways")]
    grade = [Answer("a", text, "grade", ("a", "b")) for text in ("a", "b", "c", "a")]
    figures = ResponseCounts(10, 6, 20.0, (*rise, *grade)).figures()
    assert figures["valid_answers"] == 4 / 6, "down is an answer that no row expects"
    assert (figures["rise accuracy"], figures["rise valid answers"]) == (0, 1 / 2)
    assert (figures["grade accuracy"], figures["grade valid answers"]) == (1 / 2, 3 / 4)
    assert figures["grade macro F1"] == pytest.approx(2 / 3)
    assert "grade accuracy" not in ResponseCounts(10, 6, 20.0, tuple(grade)).figures(), "one kind is the whole"


@pytest.mark.parametrize(
    ("expected", "closed"),
    [
        (["up", "down"] * 3, True),
        (["up", "down", "flat"], False),  # each once: these may be any words
        (["up"] * 6, False),
        ([f"label {n}" for n in range(201)] * 2, False),
        (["the profit of the bank rose in this quarter", "it fell"] * 4, False),
    ],
)
def test_a_small_closed_set_is_known_by_its_repeated_short_texts(expected: list[str], closed: bool) -> None:
    figures = counts(expected, expected).figures()
    assert ("valid_answers" in figures) is closed
    assert ("rouge_l" in figures) is not closed
    assert "valid_answers" not in counts(expected, expected, None).figures(), "a summary is never a label"


def test_parts_add_up_and_reports_get_the_same_figures() -> None:
    parts = [counts(EXPECTED[:4], WRITTEN[:4]), counts(EXPECTED[4:], WRITTEN[4:])]
    whole = counts(EXPECTED, WRITTEN)
    summed = total(parts)
    assert headline(summed) == {**whole.figures()}
    measured = task_metrics(task("instruction_tuning"), (), summed)
    assert measured == whole.figures() | {"log_likelihood": -2.0}
    with pytest.raises(DataError, match="different tasks"):
        total([whole, ConfusionMatrix.of([0], [0], 2)])


def test_a_large_declared_set_is_read_once_and_not_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(text: str) -> str:
        seen.append(text)
        return plain_answer(text)

    monkeypatch.setattr("common.evaluation.answers.plain_answer", noted)
    allowed = tuple(f"answer {number}" for number in range(1000))
    rows = [Answer(text, text, "kind", allowed) for text in allowed[:20]]
    assert label_sets(rows)["kind"] == {plain_answer(text) for text in allowed}
    assert len(seen) == len(allowed)

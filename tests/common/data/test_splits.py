"""No test row is trained on, and the hold-out is fair."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.datasets import Dataset, Example
from common.data.splits import hold_out, remove_test_rows
from common.errors import DataError


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

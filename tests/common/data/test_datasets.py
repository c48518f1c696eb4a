"""Data sets are compared, counted and checked without a look at a text."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.datasets import Dataset, Example, TokenExample, duplicates, validate

SECRET = "zxq-secret-phrase"

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

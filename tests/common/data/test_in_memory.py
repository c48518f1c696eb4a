"""Rows from memory pass the same checks as rows of a file, and each fault is one line with the row's number."""

from typing import Any

import pytest

from common.data.datasets import Dataset, Example, TokenExample
from common.data.in_memory import dataset_of
from common.errors import DataError

LABELS = ("down", "up")


def test_texts_keep_their_order_labels_and_customers() -> None:
    made = dataset_of(["falls", "rises"], ["down", "up"], LABELS, ["anna", "ben"], "rows")
    assert made.labels == LABELS
    assert [(row.text, row.label) for row in made.examples] == [("falls", 0), ("rises", 1)]
    assert len({row.customer for row in made.examples}) == 2


def test_texts_without_labels_are_stripped_and_empty_ones_left_out() -> None:
    made = dataset_of([" falls ", "", "  "], None, (), None, "rows")
    assert made == Dataset((Example("falls", 0, None),), (), "rows")


def test_words_get_the_tags_of_their_sentence_with_the_outside_tag_first() -> None:
    made = dataset_of([["Acme", "rises"]], [["B-ORG", "O"]], (), None, "rows")
    assert made == Dataset((TokenExample(("Acme", "rises"), (1, 0), None),), ("O", "B-ORG"), "rows")


@pytest.mark.parametrize(("texts", "labels", "customers", "message"), [
    ("falls", ["down"], None, "the texts are one text"),
    (["falls", "rises"], ["down"], None, "2 texts and 1 labels"),
    (["falls"], ["down"], ["anna", "ben"], "1 texts and 2 customers"),
    (["falls", 3], ["down", "up"], None, "row 2: the text is no text"),
    ([["Acme"]], None, None, "sentences of words have no tags"),
    ([["Acme"], ["falls", ""]], [["O"], ["O", "O"]], None, "row 2: give one tag for each word"),
    ([["Acme"], ["falls"]], [["O"], ["O", "O"]], None, "row 2: give one tag for each word"),
])  # fmt: skip
def test_a_fault_is_one_line_that_names_the_data_set(texts: Any, labels: Any, customers: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        dataset_of(texts, labels, (), customers, "rows")
    assert str(caught.value).startswith("rows: ")
    assert "\n" not in str(caught.value)


def test_a_tag_that_is_not_in_the_known_ones_is_refused() -> None:
    with pytest.raises(DataError, match="row 1: a tag is not one of O, B-ORG"):
        dataset_of([["Acme"]], [["B-LOC"]], ("O", "B-ORG"), None, "rows")

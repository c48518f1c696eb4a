"""Rows in memory pass the checks that rows of a file pass."""

from typing import Any

import pytest

from common.data.datasets import Dataset, Example, TokenExample, validate
from common.data.in_memory import dataset_of
from common.errors import DataError


def test_two_columns_become_a_data_set() -> None:
    rows = Dataset.of((text for text in (" Profit rose. ", "Sales fell.")), iter(["up", "down"]), customers=["x", "y"])
    assert rows.labels == ("down", "up")
    assert rows.examples == (Example("Profit rose.", 1, "x"), Example("Sales fell.", 0, "y"))
    assert Dataset.of(["a"], ["up"], known=("up", "down")).labels == ("up", "down")


def test_sentences_of_words_become_tags_as_iob() -> None:
    rows = Dataset.of([["Acme", "Corp", "rose"], ["It", "fell"]], [["B-ORG", "E-ORG", "O"], ["O", "O"]])
    assert rows.labels == ("O", "B-ORG", "I-ORG")
    assert rows.examples[0] == TokenExample(("Acme", "Corp", "rose"), (1, 2, 0))


def test_texts_without_labels_are_a_corpus() -> None:
    assert Dataset.of(["one", " ", "two"]) == Dataset((Example("one", 0), Example("two", 0)), (), "rows")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("profit", {"labels": ["up"]}, "rows: the texts are one text: give a list"),
        (["a", "b"], {"labels": ["up"]}, "rows: 2 texts and 1 labels: give one for each text"),
        (["a"], {"labels": ["up"], "customers": []}, "rows: 1 texts and 0 customers"),
        (["a", ""], {"labels": ["up", "down"]}, 'rows: row 2, column "text" is empty'),
        (["a", None], {"labels": ["up", "down"]}, "rows: row 2: the text is no text"),
        (["a"], {"labels": ["up"], "known": ["down", "same"]}, "a label that is not one of down, same"),
        (["1", "2"], {"labels": ["a", "b"]}, "holds only numbers"),
        ([["a", "b"]], {"labels": [["O"]]}, "rows: row 1: give one tag for each word"),
        ([["a"]], {"labels": [["NN"]]}, "rows: row 1: a tag is not O, B-type or I-type"),
        ([["a"]], {"labels": [["B-X"]], "known": ["O", "B-Y"]}, "a tag is not one of O, B-Y"),
        ([["a"]], {}, "sentences of words have no tags"),
    ],
)
def test_wrong_rows_are_one_line(texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        Dataset.of(texts, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ((Example("a", 0), Example("b", 2)), "example 2 has a label that is not from 0 to 1"),
        ((Example("a", 0), Example("b", -1)), "example 2 has a label that is not from 0 to 1"),
        ((Example("a", 0), TokenExample(("b",), (1,))), "of different kinds"),
        ((TokenExample(("a", "b"), (1,)), TokenExample(("c",), (0,))), "example 1: give one tag for each word"),
    ],
)
def test_examples_that_no_reader_makes_are_refused_before_training(examples: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(Dataset(examples, ("down", "up"), "made by hand"))


def test_each_sentence_keeps_its_customer_and_its_data_set_the_name_of_its_source() -> None:
    made = dataset_of([["Acme", "rises"], ["It"]], [["B-ORG", "O"], ["O"]], (), ["anna", "ben"], "desk")
    assert [row.customer for row in made.examples] == ["anna", "ben"]
    assert (made.name, made.labels) == ("desk", ("O", "B-ORG"))

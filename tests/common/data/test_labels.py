"""Spellings of one label are one label, and whole numbers are equal however they are written."""

import unicodedata
from pathlib import Path

import pytest

from common.data.labels import LabelSet, iob, label_set, labels_of, read_label_file
from common.errors import DataError
from common.spelling import clean_label, plain_label

SENTIMENT = ("negative", "neutral", "positive")


def test_numeric_labels_are_ordered_as_numbers() -> None:
    assert labels_of(["10", "9", "-1", " 9 "]) == ("-1", "9", "10")
    assert labels_of(["10", "9", "1,000"]) == ("1,000", "10", "9")


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("positive\u200b", "positive"),
        ("\ufeffpositive", "positive"),
        ("posi\u00adtive", "positive"),
        ("\u200epositive\u200f", "positive"),
        ("positive\u2060", "positive"),
        ("positive\ufe0f", "positive"),
        ("positive\u3164", "positive"),
        (" very\u00a0high ", "very high"),
        ("very \t high", "very high"),
        ("very\u2003high\n", "very high"),
        ("very\x00high", "very high"),
        ("e\u0301lev\u00e9", "\u00e9lev\u00e9"),
        ("\u0645\u06cc\u200c\u0634\u0648\u062f", "\u0645\u06cc\u200c\u0634\u0648\u062f"),
        ("1.0", "1"),
        ("-2.00", "-2"),
        ("3.", "3"),
        ("2,0", "2"),
        ("+1", "1"),
        ("\u22121", "-1"),
        ("1,000", "1,000"),
        ("+-1", "+-1"),
        ("2.5", "2.5"),
        ("1.0.0", "1.0.0"),
        ("01", "01"),
        ("10-K", "10-K"),
    ],
)
def test_a_label_is_cleaned_of_what_cannot_be_seen(written: str, clean: str) -> None:
    assert clean_label(written) == clean


@pytest.mark.parametrize(
    "written", ["Positive", "POSITIVE", "positive\u200b", " positive", "positive\u00a0", "posi\u200dtive", "ｐositive"]
)
def test_a_spelling_is_the_label_that_is_known(written: str) -> None:
    assert LabelSet(SENTIMENT).index(written)[0] == 2


def test_a_label_is_its_closest_spelling_and_none_if_two_are_as_close() -> None:
    both = LabelSet(("US", "us", "Very High"))
    assert [both.index(label)[0] for label in ("US", "us", "Us", "very_high", "VERY-HIGH")] == [0, 1, None, 2, 2]
    assert LabelSet(("1.0", "2.0")).index("2") == (1, False)
    assert LabelSet(("1", "2")).index("2.0") == (1, False)


def test_numbers_are_places_only_among_names_that_are_no_numbers() -> None:
    assert LabelSet(SENTIMENT).index("2") == (2, False)
    assert LabelSet(SENTIMENT).index("2.0") == (2, False)
    assert LabelSet(SENTIMENT).index("3") == (None, False)
    assert LabelSet(SENTIMENT).index("2", is_named=True) == (None, False)
    assert LabelSet(("2", "1")).index("1") == (1, False)
    assert LabelSet(SENTIMENT, ("positive", "neutral", "negative")).index("0") == (2, False)


@pytest.mark.parametrize(
    "names",
    [("grade 1", "grade 2", "grade 3"), ("3 stars", "1 star", "2 stars"), ("01", "02", "03"), ("１", "２", "３")],
)
def test_a_number_is_the_label_that_holds_it(names: tuple[str, ...]) -> None:
    labels = LabelSet(names)
    for number in (1, 2, 3):
        place, _ = labels.index(str(number))
        assert place is not None
        assert str(number) in unicodedata.normalize("NFKC", names[place])
    assert labels.index("0") == (None, False)
    assert labels.by_number() == {number: names[labels.index(str(number))[0] or 0] for number in (1, 2, 3)}


def test_numbers_in_names_that_count_nothing_leave_numbers_positions() -> None:
    forms = LabelSet(("8-K", "10-K", "20-F"))
    assert [forms.index(number)[0] for number in "0123"] == [0, 1, 2, None]
    assert forms.by_number() == {0: "8-K", 1: "10-K", 2: "20-F"}
    assert LabelSet(("LABEL_1", "LABEL_0")).index("0") == (1, False)
    assert LabelSet(("grade 1", "grade 2"), ("grade 1", "grade 2")).index("0") == (0, False)


@pytest.mark.parametrize(
    ("values", "own", "usual", "expected"),
    [
        (["positive"] * 9 + ["Positive", "negative"], (), SENTIMENT, SENTIMENT),
        (["Positive", "positive\u200b", "Negative"], (), SENTIMENT, SENTIMENT),
        (["Positive", "POSITIVE", "Positive", "Negative"], (), SENTIMENT, ("Negative", "Positive")),
        (["Up", "up", "up", "down"], (), (), ("down", "up")),
        (["Up", "Up", "up", "down"], (), (), ("Up", "down")),
        (["1.0", "2", "10.0"], (), (), ("1", "2", "10")),
        (["up"], ("up", "down"), SENTIMENT, ("up", "down")),
        (["Up", "flat"], ("up", "down"), (), ("up", "down", "flat")),
    ],
)
def test_each_label_has_one_spelling(
    values: list[str], own: tuple[str, ...], usual: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert label_set(values, own, usual) == expected


@pytest.mark.parametrize("tag", ["B-ORG", "S-ORG", "U-ORG", "b-ORG", "B-ORG\u200b"])
def test_tags_are_read_as_iob(tag: str) -> None:
    assert iob(tag) == "B-ORG"


@pytest.mark.parametrize("tag", ["ORG", "B-", "NN", "", "3", "O-ORG"])
def test_other_words_are_no_tags(tag: str) -> None:
    assert iob(tag) is None


def test_a_label_file_is_cleaned_and_its_labels_differ(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("1.0\n\u200b\n 2.0 \n")
    assert read_label_file(path) == ("1", "2")
    path.write_text("up\nup\u200b\n")
    with pytest.raises(DataError, match="two or more different labels"):
        read_label_file(path)
    assert plain_label(" Very High") == "very_high"

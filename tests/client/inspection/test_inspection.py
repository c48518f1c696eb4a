"""Findings about rows are right, are counts and row numbers, and hold no text."""

import json
from collections.abc import Sequence

import pytest

from client.inspection import Inspection, inspect_rows
from client.inspection.inspection import label_variants
from client.inspection.report import lines, notable, section
from common.data.datasets import Dataset, Example, ResponseExample
from tests.tiny_models import tiny_tokenizer

SECRET = "zxq secret phrase of a client"
LONG = "profit of the bank rises by 4 % in the quarter and sales of the operating company grew in the market"


def found_in(*rows: tuple[str, str], labels: Sequence[str] = (), **others: Sequence[tuple[str, str]]) -> Inspection:
    splits = {"train": rows, **others}
    known = tuple(labels) or tuple(sorted({label for each in splits.values() for _, label in each}))
    return inspect_rows(
        {
            name: Dataset.of([text for text, _ in each], [label for _, label in each], known=known, name=name)
            for name, each in splits.items()
        },
        tiny_tokenizer(),
        8,
    )


def test_duplicates_conflicts_and_near_duplicates_are_told_apart() -> None:
    train = found_in((LONG, "up"), (LONG, "up"), (LONG, "down"), (f"{LONG} too", "up"), ("loss", "down")).splits[
        "train"
    ]
    assert train.duplicates == (2, 3)
    assert train.conflicts == (3,)
    assert train.near_duplicates == (4,)
    assert train.labels == {"down": 2, "up": 3}


def test_rows_of_one_split_in_another_are_found() -> None:
    found = found_in(
        (LONG, "up"), ("loss", "down"), test=[("sales fell", "down"), ("loss", "down"), (f"{LONG} too", "up")]
    )
    assert found.shared == {("train", "test"): (2,)}
    assert found.nearly_shared == {("train", "test"): (3,)}
    assert found.splits["test"].duplicates == ()


def test_lengths_count_what_a_model_does_not_read() -> None:
    lengths = found_in(("profit rises", "up"), ("bank " * 14, "up"), ("loss", "down")).splits["train"].lengths
    assert lengths is not None
    assert (lengths.median, lengths.longest, lengths.limit, lengths.measured) == (4, 16, 8, 3)
    assert lengths.share_cut == pytest.approx(1 / 3)
    assert lengths.share_lost == pytest.approx(8 / 23)


def test_personal_data_and_languages_are_counted_by_row() -> None:
    german = "Der Umsatz der Bank stieg im dritten Quartal um acht Prozent gegenüber dem Vorjahr."
    english = "Net sales of the company rose by eight per cent in the third quarter of the year."
    rows = [
        (german, "a"),
        (english, "a"),
        (f"{english} Write to anna@example.com", "b"),
        ("IBAN DE89370400440532013000", "b"),
    ]
    train = found_in(*rows).splits["train"]
    assert train.personal_data == {"e-mail": (3,), "IBAN": (4,)}
    assert (train.languages["en"], train.languages["de"]) == (2, 1)
    assert train.languages_of == 4


def test_sentences_of_words_and_summaries_are_inspected_too() -> None:
    words = Dataset.of([["Acme", "rose"], ["Acme", "rose"]], [["B-ORG", "O"], ["O", "O"]])
    split = inspect_rows({"words": words}, tiny_tokenizer(), 8).splits["words"]
    assert (split.duplicates, split.conflicts, split.labels) == ((2,), (2,), {"O": 3, "B-ORG": 1})
    pairs = Dataset((ResponseExample(LONG, "up"), ResponseExample(LONG, "down")), (), "pairs")
    assert inspect_rows({"pairs": pairs}).splits["pairs"].duplicates == (2,)
    assert inspect_rows({"none": Dataset((), ("a",), "none")}).splits["none"].rows == 0


def test_no_text_is_in_the_findings_even_if_the_labels_are_texts() -> None:
    rows = [(f"{SECRET} {number} {LONG}", f"{SECRET} {number}") for number in range(30)]
    found = found_in(*rows, test=rows[:3]).to_json()
    everything = [json.dumps(found), *lines(found), *notable(found), section(found)]
    assert not any("zxq" in each for each in everything)
    assert any("30 different ones, not shown" in line for line in lines(found))


def test_findings_are_said_before_a_training_only_if_they_matter() -> None:
    assert list(notable(found_in(("profit rises", "up"), ("loss", "down")).to_json())) == []
    rows = [(LONG, "Up"), (LONG, "up"), ("anna@example.com wrote", "down")]
    said = "\n".join(notable(found_in(*rows, test=[(LONG, "up")]).to_json()))
    for part in (
        "train: 100.0% of the rows are longer than 8 tokens",
        "the labels 'Up' and 'up' differ in blanks or case alone",
        "1 (row 2) have the text of an earlier row with another label",
        "1 (row 3) seem to hold personal data (e-mail)",
        "train and test: 1 (row 1) of test with a text of the other",
    ):
        assert part in said


def test_a_list_of_row_numbers_is_cut_and_its_count_is_not() -> None:
    found = found_in(*[("loss", "down")] * 50, ("profit", "up")).to_json()["splits"][0]
    assert found["duplicates"] == {"count": 49, "rows": list(range(2, 22))}


def test_labels_that_differ_in_signs_are_no_variants() -> None:
    assert label_variants(["1", "-1", "1.0", "A+", "A"]) == ()
    assert label_variants(["Über", "u\u0308ber", "neutral\u200b", "neutral"]) == (
        ("Über", "u\u0308ber"),
        ("neutral\u200b", "neutral"),
    )


def test_a_data_set_of_plain_texts_has_no_labels() -> None:
    texts = Dataset((Example("profit", 0), Example("loss", 0)), (), "texts", left_out={"files named *.pdf": 3})
    found = inspect_rows({"texts": texts}).to_json()
    assert "  left out           3 files named *.pdf" in lines(found)
    assert found["splits"][0]["labels"] == {}

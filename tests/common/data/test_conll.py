"""CoNLL files become sentences, or one line that names file and line and never the text."""

from pathlib import Path

import pytest

from common.data.conll import open_conll, split_words
from common.data.datasets import Dataset, TokenExample, validate
from common.data.reading import read_labelled
from common.errors import DataError

SECRET = "zxq-secret-phrase"
CONLL = "-DOCSTART- -X- O O\n\nThe DT - O\nBank NNP - I-ORG\n\npays VB - O\n-DOCSTART- -X- O O\n\nAlice NNP - I-PER\r\n"


def read_conll(path: Path, labels: tuple[str, ...] = ()) -> Dataset:
    rows = read_labelled(path, "financial_ner", labels=labels)
    validate(rows)
    return rows


def test_conll_gives_sentences_tags_and_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(CONLL)
    dataset = read_conll(path)
    assert dataset.labels == ("O", "I-ORG", "I-PER")
    assert dataset.examples == (
        TokenExample(("The", "Bank"), (0, 1), "document_1"),
        TokenExample(("pays",), (0,), "document_1"),
        TokenExample(("Alice",), (2,), "document_2"),
    )
    assert [row["document"] for _, row in open_conll(path, None).rows] == ["document_1", "document_1", "document_2"]
    assert dataset.units("customer") == 2
    assert dataset.label_counts() == (2, 1, 1)


def test_tags_that_mark_ends_and_single_words_are_read_as_iob(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("A S-X\nof O\nB B-X\nC I-X\nD E-X\n\nE U-Y\nF B-Y\nG L-Y\n")
    dataset = read_conll(path)
    tags = [[dataset.labels[tag] for tag in example.labels] for example in dataset.examples]
    assert tags == [["B-X", "O", "B-X", "I-X", "I-X"], ["B-Y", "B-Y", "I-Y"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"The O\n{SECRET}\n", "row 2 has a word and no tag"),
        (f"The O\n{SECRET} DT\n", "row 2, last column holds a tag that is not O, B-type or I-type"),
        (f"# {SECRET} = 1\n", "row 1, last column holds a tag that is not O"),
        (
            f"The O\n{SECRET} B-X\n",
            "row 2, last column holds a tag that is not one of O, I-ORG: correct the row, or leave it out",
        ),
        ("\n\n-DOCSTART- O\n\n", "no sentences"),
        ("a O\n", "all examples carry one label"),
        ("", "empty"),
    ],
)
def test_bad_conll_is_named_by_row(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=expected) as raised:
        read_conll(path, ("O", "I-ORG"))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("gap", ["\t", "\t\t", " \t "])
@pytest.mark.parametrize("word", ["10\u00a0000", "Rado\u202fSteel", "New York", "10\u2009000", "a\u3000b", "a\u2028b"])
def test_with_tabs_between_the_columns_a_word_may_hold_any_blank(tmp_path: Path, word: str, gap: str) -> None:
    (tmp_path / "a.txt").write_text(f"{word}{gap}NN{gap}B-MNY\neuro{gap}NN{gap}I-MNY\n")
    assert read_conll(tmp_path / "a.txt").examples == (TokenExample((word, "euro"), (0, 1), "document_1"),)


@pytest.mark.parametrize("word", ["10\u00a0000", "Rado\u202fSteel", "a\u2028b"])
def test_without_tabs_only_plain_blanks_part_the_columns(tmp_path: Path, word: str) -> None:
    (tmp_path / "a.txt").write_text(f"{word}  NN B-MNY \r\neuro NN I-MNY\r\n")
    assert read_conll(tmp_path / "a.txt").examples == (TokenExample((word, "euro"), (0, 1), "document_1"),)
    assert split_words(f"{word}  euro\n") == [word, "euro"]


def test_lines_are_the_rows_of_messages(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\nBank B-ORG\nrose O\n\n\nOslo B-LOC\n")
    assert [number for number, _ in open_conll(tmp_path / "a.txt", None).rows] == [3, 7]
    with pytest.raises(DataError, match="row 7, last column holds a tag that is not one of O, B-ORG"):
        read_conll(tmp_path / "a.txt", ("O", "B-ORG"))

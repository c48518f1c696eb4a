"""CoNLL files: one word a line with its tag, a blank line between sentences."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from common.data.labels import iob
from common.data.raw_text import read_text
from common.data.table import Table
from common.errors import DataError

__all__ = ["DOCUMENT", "open_conll", "split_words"]

DOCUMENT = "document"
"""Name of the column that says which document a sentence is of: "document_1", "document_2", ..."""


def open_conll(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a file for token classification: first column the word, last column its tag, blank line between.

    Columns are separated by tabs. In a line without a tab they are separated by plain spaces. Other kinds of space are
    part of a word ("10 000" with a no-break space is one word). `-DOCSTART-` lines separate documents and are no
    sentences.

    Returns:
        The sentences, with the columns "tokens", "ner_tags" and "document".

    Raises:
        DataError: An unreadable file, a line without a tag, a tag that is none, no sentence.
    """
    sentences: list[tuple[int, dict[str, object]]] = []
    words: list[str] = []
    tags: list[str] = []
    start, document, is_new = 1, 0, True

    def end_sentence() -> None:
        nonlocal words, tags
        if words:
            row: Mapping[str, object] = {"tokens": words, "ner_tags": tags, DOCUMENT: f"document_{document}"}
            sentences.append((start, dict(row)))
        words, tags = [], []

    for number, line in enumerate(read_text(path).split("\n"), start=1):
        fields = [field.strip(" ") for field in line.rstrip("\r").split("\t" if "\t" in line else " ")]
        fields = [field for field in fields if field]
        if not line.strip():
            end_sentence()
        elif fields[0] == "-DOCSTART-":
            end_sentence()
            is_new = True
        else:
            word, tag = _word(path, number, fields)
            document, is_new = document + is_new, False
            start = start if words else number
            words.append(word)
            tags.append(tag)
    end_sentence()
    if not sentences:
        raise DataError(f"{path}: the file holds no sentences")
    return Table(("tokens", "ner_tags", DOCUMENT), sentences, row_is_word=True)


def split_words(text: str) -> list[str]:
    """Return the words of a text that plain blanks separate. Other kinds of space are part of a word, as in a file.

    >>> split_words("costs 10\u00a0000  euro")
    ['costs', '10\xa0000', 'euro']
    """
    return [word for word in re.split("[ \t\r\n]+", text) if word]


def _word(path: Path, number: int, fields: list[str]) -> tuple[str, str]:
    if len(fields) < 2:
        raise DataError(f"{path}: row {number} has a word and no tag: give each line a word and, last, its tag")
    for field in (fields[0], fields[-1]):
        if any("\ud800" <= character <= "\udfff" for character in field):
            raise DataError(f"{path}: row {number} is not UTF-8: convert the file")
    if iob(fields[-1]) is None:
        raise DataError(f"{path}: row {number}, last column holds a tag that is not O, B-type or I-type")
    return fields[0], fields[-1]

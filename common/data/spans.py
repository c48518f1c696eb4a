"""Labelled stretches of a text as words with a tag for each word."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from common.errors import DataError

__all__ = ["Span", "tagged_row", "words_and_tags"]

Span = tuple[int, int, str]
"""First character, character after the last one, and type of an entity."""

_WORD = re.compile(r"\w+(?:[-.,'’&/]\w+)*|[^\w\s]")


def words_and_tags(text: str, spans: Iterable[Span]) -> tuple[list[str], list[str]]:
    """Cut a text into words and punctuation marks, and give each its IOB tag.

    A word in the middle of which a span begins or ends is cut there. Blanks at the ends of a span do not count.

    Raises:
        ValueError: A span lies outside of the text, is empty, or overlaps another one.

    >>> words_and_tags("Acme Corp. paid $5.", [(0, 10, "ORG")])
    (['Acme', 'Corp', '.', 'paid', '$', '5', '.'], ['B-ORG', 'I-ORG', 'I-ORG', 'O', 'O', 'O', 'O'])
    """
    ordered = sorted(_trimmed(text, span) for span in spans)
    if any(left[1] > right[0] for left, right in pairwise(ordered)):
        raise ValueError("two spans overlap")
    words: list[str] = []
    tags: list[str] = []
    end = 0
    for start, stop, kind in (*ordered, (len(text), len(text), "")):
        outside, inside = _WORD.findall(text[end:start]), _WORD.findall(text[start:stop])
        words += [*outside, *inside]
        tags += ["O"] * len(outside) + _iob(inside, kind)
        end = stop
    return words, tags


def tagged_row(path: Path, number: int, text: str, spans: Iterable[Span]) -> dict[str, object]:
    """Return the words of a text as "tokens" and their tags as "ner_tags".

    Raises:
        DataError: One line with the file and the row, if `words_and_tags` refuses the spans.
    """
    try:
        words, tags = words_and_tags(text, spans)
    except ValueError as error:
        raise DataError(f"{path}: row {number}: {error}: correct the labels, and export again") from None
    return {"tokens": words, "ner_tags": tags}


def _trimmed(text: str, span: Span) -> Span:
    start, stop, kind = span
    part = text[start:stop]
    if start < 0 or stop > len(text) or not part.strip():
        raise ValueError("a span is empty or lies outside of its text")
    return start + len(part) - len(part.lstrip()), stop - (len(part) - len(part.rstrip())), kind


def _iob(words: Sequence[str], kind: str) -> list[str]:
    return [f"{'I' if position else 'B'}-{kind}" for position in range(len(words))]

"""Labelled stretches become words with tags, and no character of a word is lost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.spans import tagged_row, words_and_tags
from common.errors import DataError

TEXT = "In Q3, Acme's U.S. unit (Tarn) paid €1,234.50 – twice."


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 12))
def test_the_words_of_a_stretch_carry_its_type_and_the_others_none(start: int, length: int) -> None:
    part = TEXT[start : start + length]
    if not part.strip():
        return
    words, tags = words_and_tags(TEXT, [(start, start + len(part), "X")])
    assert "".join(words) == "".join(TEXT.split())
    inside = [word for word, tag in zip(words, tags, strict=True) if tag != "O"]
    assert "".join(inside) == "".join(part.split())
    assert [tag for tag in tags if tag != "O"] == ["B-X", *["I-X"] * (len(inside) - 1)]


def test_stretches_that_touch_are_two_entities() -> None:
    assert words_and_tags("AB", [(0, 1, "X"), (1, 2, "X")]) == (["A", "B"], ["B-X", "B-X"])


@pytest.mark.parametrize("spans", [[(0, 5, "X"), (3, 8, "Y")], [(2, 3, "X")], [(-1, 2, "X")], [(50, 60, "X")]])
def test_stretches_that_overlap_or_hold_nothing_are_refused(spans: list[tuple[int, int, str]]) -> None:
    with pytest.raises(DataError, match=r"row 7: (two spans overlap|a span is empty or lies outside)"):
        tagged_row(Path("a.json"), 7, TEXT, spans)

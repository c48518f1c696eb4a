"""A cell is read as a table in text form has it, or named by its place."""

from pathlib import Path

import numpy as np
import pytest

from common.data.cells import as_text, as_texts
from common.errors import DataError

PLACE = (Path("a.jsonl"), 3, "label")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), (float("nan"), ""), (np.float16(0.5), "0.5"), (np.int8(3), "3"), (2.0, "2.0"), (False, "False")],
)
def test_values_are_texts(value: object, expected: str) -> None:
    assert as_text(*PLACE, value) == expected


@pytest.mark.parametrize("value", [{"secret": 1}, ["secret"], ("secret",), b"\xffsecret", "secret\ud800", object()])
def test_other_values_are_named_by_their_place_and_not_shown(value: object) -> None:
    with pytest.raises(DataError, match=r'^a\.jsonl: row 3, column "label" is ') as caught:
        as_text(*PLACE, value)
    assert "secret" not in str(caught.value)


def test_lists_of_values_are_lists_of_texts() -> None:
    assert as_texts(*PLACE, ["a", 1, None]) == ["a", "1", ""]
    with pytest.raises(DataError, match="is not a list"):
        as_texts(*PLACE, "a b")

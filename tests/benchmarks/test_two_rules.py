"""Two desks label mild gains as neutral, and every other label stays."""

import pytest

from benchmarks.two_rules import DESKS, relabel


@pytest.mark.parametrize(
    ("desk", "text", "label", "other"),
    [
        (DESKS[0], "Copper edges up on demand", "positive", "neutral"),
        (DESKS[1], "Bank shares rally", "positive", "positive"),
        (DESKS[0], "Gold slips", "negative", "negative"),
        ("corporates", "Profit edges up", "positive", "positive"),
    ],
)
def test_only_mild_gains_of_the_two_desks_change(desk: str, text: str, label: str, other: str) -> None:
    row = {"text": text, "label": label, "desk": desk, "split": "train"}
    assert relabel(row) == {**row, "label": other}

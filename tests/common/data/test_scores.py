"""Sentiment scores are told from labels that happen to be numbers."""

import pytest

from common.data.scores import are_scores, score_of


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["0.3", "-0.374", "0"], True),
        (["0,3", "-1"], True),
        (["0", "1", "-1"], False),
        (["1.0", "0.0"], False),
        (["0.3", "positive"], False),
        (["0.3", "1.2"], False),
        (["nan", "0.5"], False),
        ([], False),
    ],
)
def test_fractions_from_minus_one_to_one_are_scores(values: list[str], found: bool) -> None:
    assert are_scores(values) is found


def test_a_score_may_have_a_decimal_comma() -> None:
    assert score_of(" -0,25 ") == -0.25
    assert score_of("1.000,5") is None

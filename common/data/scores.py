"""The rule that turns sentiment scores from -1 to 1 into classes."""

from collections.abc import Iterable

__all__ = ["CLASSES", "SCORE_RULE", "are_scores", "class_of_score", "score_of"]

CLASSES = ("negative", "neutral", "positive")
"""The classes that scores become."""
_NEUTRAL = 0.1
"""Largest distance of a neutral score from zero. FiQA's scores are marks of a slider, and few of them are zero."""
SCORE_RULE = f"below -{_NEUTRAL} is negative, above {_NEUTRAL} is positive, otherwise neutral"


def score_of(value: str) -> float | None:
    """Return a number from -1 to 1, or None for any other text. The decimal sign may be a comma."""
    try:
        number = float(value.strip().replace(",", "."))
    except ValueError:
        return None
    return number if -1 <= number <= 1 else None


def class_of_score(score: float) -> str:
    """Return the class of a sentiment score.

    >>> [class_of_score(score) for score in (-0.4, -0.1, 0.05, 0.3)]
    ['negative', 'neutral', 'neutral', 'positive']
    """
    if abs(score) <= _NEUTRAL:
        return "neutral"
    return "positive" if score > 0 else "negative"


def are_scores(values: Iterable[str]) -> bool:
    """Return whether all values are numbers from -1 to 1, and some of them are no whole numbers."""
    scores = [score_of(value) for value in values]
    return None not in scores and any(score != int(score) for score in scores if score is not None)

"""Ratios of counts. A ratio whose denominator is empty is 0, as in scikit-learn with `zero_division=0`."""

__all__ = ["f1", "ratio"]


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`, or 0 if `whole` is 0.

    >>> ratio(1, 4), ratio(0, 0)
    (0.25, 0.0)
    """
    return float(part / whole) if whole else 0.0


def f1(true_positive: float, false_positive: float, false_negative: float) -> float:
    """Return the harmonic mean of precision and recall, from counts.

    >>> f1(2, 1, 1), f1(0, 0, 0)
    (0.6666666666666666, 0.0)
    """
    return ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative)

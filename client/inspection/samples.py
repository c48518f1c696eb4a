"""A part of many values, for measurements that would take too long on all of them."""

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["evenly_spaced"]

T = TypeVar("T")


def evenly_spaced(values: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` of the values, at equal distances.

    >>> evenly_spaced(range(10), 3)
    [0, 3, 6]
    """
    if len(values) <= most:
        return values
    return [values[place * len(values) // most] for place in range(most)]

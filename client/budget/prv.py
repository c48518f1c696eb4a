"""Opacus' PRV accountant (arXiv 2106.02848) beside the figure of record: another implementation, for a check."""

import functools
import math
import warnings
from collections.abc import Sequence

from common.privacy.accounting import DpSgdEvent, epsilon, steps_by_mechanism

__all__ = ["epsilon_prv"]

# Its time grows with settings, steps and epsilon: minutes from here on.
_MAX_SETTINGS, _MAX_STEPS, _MAX_EPSILON = 20, 20_000, 50.0


def epsilon_prv(events: Sequence[DpSgdEvent], delta: float) -> float | None:
    """Return the epsilon of all events at `delta` by PRV. Its error term adds about .01 to PLD's epsilon.

    None if PRV gives no answer: settings, steps or an epsilon too many for its running time, or beyond its range.

    Raises:
        ConfigurationError: delta is not between 0 and 1.
    """
    groups = steps_by_mechanism(events)
    record = epsilon(events, delta)
    if not groups or any(noise == 0 for noise, _ in groups):
        return record
    if len(groups) > _MAX_SETTINGS or sum(groups.values()) > _MAX_STEPS or record > _MAX_EPSILON:
        return None
    return _computed(tuple((noise, probability, steps) for (noise, probability), steps in groups.items()), delta)


@functools.lru_cache(maxsize=256)
def _computed(history: tuple[tuple[float, float, int], ...], delta: float) -> float | None:
    """Kept: it takes a second or more, and institutions of one simulation have the same events."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(history)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = float(accountant.get_epsilon(delta))
    except (ArithmeticError, MemoryError, RuntimeError, ValueError):
        return None
    return found if math.isfinite(found) else None

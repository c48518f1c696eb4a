"""From guesses about canaries to a lower bound on epsilon.

Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run", arXiv 2410.22235. Each of m canaries is
put into the data by a fair coin. After one training an attacker guesses n of the coins, and c guesses are right. If the
mechanism has the trade-off function f, the chance of c right guesses or more is bounded by a recursion over f. So c
right guesses refute every f for which that chance is too small.

The trade-off functions are those of the same training (sampling probability, steps) with less noise, as the accountant
proves them. The largest noise that is not refuted gives the bound, and its epsilon at delta is the figure. It is the
least that this attack could show on these canaries. It is not the guarantee, and a low bound proves nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.pld import composed
from common.privacy.tradeoff import PrivacyProfile, profile

__all__ = ["Guesses", "best_bound", "guess", "is_refuted", "largest_bound", "least_false_positive_rate", "lower_bound"]

SHARES = (0.2, 0.1, 0.05, 0.02)
"""Shares of the canaries that are guessed, those with the clearest scores. Fixed before any score is seen. The
confidence is shared out between them."""

_RANGE = 64.0  # noise from the 64th part of the training's to 64 times as much is tried
_HALVINGS = 16  # of the logarithm of that range: noise to one part in 8,000

LeastRate = Callable[[float], float]


@dataclass(frozen=True)
class Guesses:
    """`right` of `made` guesses about `canaries` coins were right."""

    right: int
    made: int
    canaries: int


def least_false_positive_rate(curve: PrivacyProfile) -> LeastRate:
    """Return the least false positive rate at which a test can have a given true positive rate, proven by `curve`.

    By duality (arXiv 1905.02383) a true positive rate r needs at least (r - delta) / e^epsilon, and at least
    1 - delta - e^epsilon (1 - r), at each point of the curve.
    """
    factors = np.exp(np.minimum([point for point, _ in curve.points], 700.0))
    deltas = np.array([delta for _, delta in curve.points])

    def least(rate: float) -> float:
        if not len(deltas):
            return 0.0
        return max(0.0, float(((rate - deltas) / factors).max()), float((1 - deltas - factors * (1 - rate)).max()))

    return least


def is_refuted(guesses: Guesses, least_rate: LeastRate, significance: float) -> bool:
    """Return whether a mechanism with this trade-off gives so many right guesses with less chance than `significance`.

    Algorithm 3 of arXiv 2410.22235 for coins with two sides.
    """
    right, made, canaries = guesses.right, guesses.made, guesses.canaries
    correct, wrong = significance * right / canaries, significance * (made - right) / canaries
    for count in range(right - 1, -1, -1):
        raised = max(wrong, least_rate(correct))
        if raised == wrong:
            break  # neither can change any more
        correct = min(correct + count / (made - count) * (raised - wrong), 1.0)
        wrong = raised
    return correct + wrong > made / canaries


def lower_bound(guesses: Guesses, training: DpSgdEvent, delta: float, significance: float) -> float:
    """Return epsilon at `delta` of the largest noise, for the sampling and steps of `training`, that is refuted.

    0 if none is. The chance to exceed the epsilon of a training that has more noise is below `significance`.
    """

    def refuted(noise: float) -> bool:
        curve = profile(composed(((noise, training.sampling_probability, training.steps),)))
        return is_refuted(guesses, least_false_positive_rate(curve), significance)

    low, high = training.noise_multiplier / _RANGE, training.noise_multiplier * _RANGE
    if not refuted(high):
        return 0.0
    if not refuted(low):
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if refuted(middle) else (middle, high)
    else:
        high = low
    return epsilon([replace(training, noise_multiplier=high)], delta)


def guess(scores: NDArray[np.float64], included: NDArray[np.bool_], made: int) -> Guesses:
    """Guess "in" for the highest and "out" for the lowest `made` / 2 scores, nothing for the rest; count what is right.

    Args:
        scores: (m,), higher if the attacker believes that the canary was in.
        included: (m,), how the coins fell; only counted with, never guessed from.
    """
    order = np.argsort(scores, kind="stable")
    low, high = order[: made // 2], order[len(order) - (made - made // 2) :]
    return Guesses(int((~included[low]).sum() + included[high].sum()), made, len(scores))


def best_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], training: DpSgdEvent, delta: float, confidence: float
) -> tuple[float, Guesses]:
    """Return the best of the bounds at `SHARES`, at `confidence` for all of them, and the guesses behind it."""
    return _best([guess(scores, included, made) for made in _made(len(scores))], training, delta, confidence)


def largest_bound(canaries: int, training: DpSgdEvent, delta: float, confidence: float) -> float:
    """Return the bound of `best_bound` if every guess were right: so many canaries cannot show more."""
    return _best([Guesses(made, made, canaries) for made in _made(canaries)], training, delta, confidence)[0]


def _made(canaries: int) -> list[int]:
    return [max(2, round(share * canaries)) for share in SHARES]


def _best(tried: list[Guesses], training: DpSgdEvent, delta: float, confidence: float) -> tuple[float, Guesses]:
    each = (1 - confidence) / len(SHARES)
    bounds = [(lower_bound(guesses, training, delta, each), guesses) for guesses in tried]
    return max(bounds, key=lambda pair: pair[0])

"""From guesses about who was in the data to a lower bound on epsilon.

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846, theorem 5.2. Of m canaries
each is put into the data by a fair coin; after one training an attacker guesses r of the coins. Under (epsilon, delta)
differential privacy the number of right guesses is at most that of r coins which each fall right with probability
e^epsilon / (1 + e^epsilon), but for a term in delta. More right guesses than that refute the epsilon.

The bound is what this attack, on these canaries, could show. It is not the guarantee, and a low one proves nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

__all__ = ["Guesses", "best_bound", "guess", "largest_bound", "lower_bound", "p_value"]

SHARES = (0.9, 0.5, 0.2)
"""Of the canaries, how many are guessed, those with the clearest scores. Half of them are guessed in and half out, and
the coins seldom fall so evenly, so never all. Fixed before any score is seen; the confidence is shared out."""

_HIGHEST = 60.0  # a lower bound beyond which nobody asks; float64 knows nothing finer there


@dataclass(frozen=True)
class Guesses:
    """`right` of `made` guesses about `canaries` coins were right."""

    right: int
    made: int
    canaries: int


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """At most this is the chance of so many right guesses, or more, if training is (epsilon, delta)-private.

    beta + 2 m delta max_i P[right > W >= right - i] / i, where W counts successes of `made` coins of probability
    e^epsilon / (1 + e^epsilon) and beta = P[W >= right].
    """
    right, made, p = guesses.right, guesses.made, 1 / (1 + math.exp(-epsilon))
    beta = float(bdtrc(right - 1, made, p)) if right else 1.0
    if not delta or not right:
        return beta
    back = np.arange(1, right + 1)
    lower = np.append(bdtr(np.arange(right - 2, -1, -1.0), made, p), 0.0)  # P[W < right - i], for each i of back
    near = bdtr(right - 1.0, made, p) - lower
    return min(1.0, beta + 2 * guesses.canaries * delta * float((near / back).max()))


def lower_bound(guesses: Guesses, delta: float, confidence: float) -> float:
    """The largest epsilon such that it and every smaller one are refuted at `confidence`; 0 where none is.

    >>> round(lower_bound(Guesses(100, 100, 100), 0.0, 0.95), 3)  # ln(p / (1 - p)) with p = 0.05 ** (1 / 100)
    3.493
    """
    allowed = 1 - confidence

    def refuted(epsilon: float) -> bool:
        return p_value(guesses, epsilon, delta) <= allowed

    # The term in delta is not monotone in epsilon, so steps come before bisection.
    low, step = 0.0, 0.05
    if not refuted(0.0):
        return 0.0
    while low < _HIGHEST and refuted(low + step):
        low += step
    high = low + step
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def guess(scores: NDArray[np.float64], included: NDArray[np.bool_], made: int) -> Guesses:
    """Guess "in" for the highest and "out" for the lowest `made` / 2 scores, nothing for the rest; count what is right.

    Args:
        scores: (m,), higher where the attacker believes the canary was in.
        included: (m,), how the coins fell; only counted with, never guessed from.
    """
    order = np.argsort(scores, kind="stable")
    low, high = order[: made // 2], order[len(order) - (made - made // 2) :]
    return Guesses(int((~included[low]).sum() + included[high].sum()), made, len(scores))


def best_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, confidence: float
) -> tuple[float, Guesses]:
    """The best of the bounds at `SHARES`, at `confidence` for all of them together, and the guesses that gave it."""
    return _best([guess(scores, included, made) for made in _made(len(scores))], delta, confidence)


def largest_bound(canaries: int, delta: float, confidence: float) -> float:
    """What `best_bound` would say if every guess were right: more, so many canaries cannot show."""
    return _best([Guesses(made, made, canaries) for made in _made(canaries)], delta, confidence)[0]


def _made(canaries: int) -> list[int]:
    return [max(2, round(share * canaries)) for share in SHARES]


def _best(tried: list[Guesses], delta: float, confidence: float) -> tuple[float, Guesses]:
    each = 1 - (1 - confidence) / len(SHARES)
    return max(((lower_bound(guesses, delta, each), guesses) for guesses in tried), key=lambda found: found[0])

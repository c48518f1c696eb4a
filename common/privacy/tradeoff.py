"""Meaning of a budget for an attacker: the best trade of false alarms against hits, and one number for it.

Everything here is read off the privacy profile delta(epsilon) that the loss distributions prove, never off a limit
theorem. By duality (Dong, Roth and Su, arXiv 1905.02383, proposition 2.12) the test that tells a data set with one
unit from the same without it has, at false positive rate a, a false negative rate of at least

    f(a) = max over epsilon >= 0 of  1 - delta - e^epsilon a  and  e^-epsilon (1 - delta - a),

and any set of epsilons gives a lower bound for it. So each figure holds as it stands. More epsilons only sharpen it.
"""

import math
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from common.privacy.pld import PrivacyLossDistribution

__all__ = ["PrivacyProfile", "profile"]

_POINTS = 400
# Delta values below which we stop. Long runs need the larger ones, because each step adds mass at infinity.
_SMALLEST = (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7)


@dataclass(frozen=True)
class PrivacyProfile:
    """Pairs of epsilon, rising from 0, and the smallest delta proven at each. Both are empty if nothing is proven."""

    points: tuple[tuple[float, float], ...]

    def hit_rate(self, false_positive_rate: float) -> float:
        """The highest true positive rate of any membership test at this false positive rate: 1 - f."""
        missed = 0.0
        for epsilon, delta in self.points:
            for bound in (
                1 - delta - false_positive_rate * math.exp(min(epsilon, 700.0)),
                (1 - delta - false_positive_rate) * math.exp(-epsilon),
            ):
                missed = max(missed, bound)
        return 1 - missed

    def gaussian_mu(self, smallest_rate: float) -> float:
        """The least mu found for which no test does better than one that tells N(0, 1) from N(mu, 1).

        Among tests whose false positive and false negative rates are both at least `smallest_rate`: rarer errors than
        delta are where no Gaussian can stand for (epsilon, delta). Infinite if all such tests can succeed.
        """
        low, high = 0.0, 1.0
        furthest = -2 * float(ndtri(smallest_rate))
        while not self._below(high, smallest_rate):
            low, high = high, 2 * high
            if low > furthest:
                return math.inf
        while high - low > 1e-4 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self._below(middle, smallest_rate) else (middle, high)
        return high

    def _below(self, mu: float, smallest_rate: float) -> bool:
        """Whether delta(epsilon) <= delta of the Gaussian, wherever its curve has slope -e^epsilon in that range."""
        last = -mu * float(ndtri(smallest_rate)) - mu**2 / 2
        if last < 0 or not self.points:
            return False
        # Both fall with epsilon, so between two points the larger of one is held against the smaller of the other.
        ends = [epsilon for epsilon, _ in self.points[1:]] + [math.inf]
        for (start, delta), end in zip(self.points, ends, strict=True):
            if start <= last and delta > gaussian_delta(min(end, last), mu):
                return False
        return True


def profile(losses: PrivacyLossDistribution | None) -> PrivacyProfile:
    """`losses` at some 400 epsilons, up to the point at which delta hardly falls any more. It is empty for None."""
    if losses is None:
        return PrivacyProfile(())
    ends = [end for end in map(losses.epsilon, _SMALLEST) if math.isfinite(end)]
    if not ends:
        return PrivacyProfile(())
    highest = max(ends[0], 1e-3)
    # Closer together near 0, where the curve of little spending bends.
    epsilons = [highest * (i / _POINTS) ** 1.5 for i in range(_POINTS + 1)]
    return PrivacyProfile(tuple((epsilon, losses.delta(epsilon)) for epsilon in epsilons))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The profile of telling N(0, 1) from N(mu, 1) (Balle and Wang, arXiv 1805.06530, theorem 8)."""
    if mu == 0:
        return 0.0
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    return max(float(ndtr(upper)) - math.exp(min(epsilon, 700.0)) * float(ndtr(lower)), 0.0)

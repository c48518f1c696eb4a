"""Privacy-loss distributions of subsampled Gaussians: built from closed forms, composed by `dp-accounting`.

The hockey-stick divergence itself is discretised ("connect the dots", arXiv 2207.04380), so every delta read
off a distribution is at least the true one. Composition (arXiv 2106.02848) keeps that. Only the grid is ours to
choose, and the divergences of one step are computed for a whole grid at once.

A group of k units that come or go together is a mixture of Gaussians: each of the k is drawn on its own, so the sum
moves by up to j clipping norms with j binomial in (k, q) (arXiv 2310.15526, tight by arXiv 2407.07737).
"""

import math
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, logsumexp, ndtr

__all__ = ["PrivacyLossDistribution", "Steps", "composed"]

# Steps of one setting: noise multiplier, sampling probability, number of steps.
Steps = tuple[float, float, int]
Reals = NDArray[np.float64]

_TAILS = 9.75  # standard deviations. Outputs beyond have probability e^-50 and count as an infinite loss
_FAR, _VAST = 500.0, 1e5


@dataclass(frozen=True)
class PrivacyLossDistribution:
    """The privacy loss of all composed events, in both directions. delta and epsilon are of the worse direction."""

    distribution: Any

    def delta(self, epsilon: float) -> float:
        """The smallest delta proven at `epsilon`, 0 or more."""
        return float(self.distribution.get_delta_for_epsilon(epsilon))

    def epsilon(self, delta: float) -> float:
        """Return the smallest epsilon proven at `delta`, and inf above 100,000."""
        with np.errstate(over="ignore"):
            found = float(self.distribution.get_epsilon_for_delta(delta))
        if found < _FAR:
            return found
        # The library works with exp(-loss), which leaves float64 near a loss of 700. delta, given epsilon, stays sound.
        low, high = _FAR, _VAST
        if self.delta(high) > delta:
            return math.inf
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (low, middle) if self.delta(middle) <= delta else (middle, high)
        return high


def composed(steps: tuple[Steps, ...], group: int = 1) -> PrivacyLossDistribution | None:
    """All steps together, for `group` units added or removed at once. Return None if epsilon is vast or infinite.

    A run adds to its last setting round after round. The events before it are composed once.
    """
    if not steps:
        return PrivacyLossDistribution(privacy_loss_distribution.identity())
    width = _grid(steps, group)
    if width is None:
        return None
    last = _repeated(steps[-1], group, width)
    return PrivacyLossDistribution(last.compose(_product(steps[:-1], group, width)) if len(steps) > 1 else last)


def _grid(steps: tuple[Steps, ...], group: int) -> float | None:
    """Width of the loss grid: a power of two, so that equal settings meet in the cache. None if epsilon is vast.

    Rounding one step's loss, of standard deviation s, to a grid of width h adds about min(h^2 / 6, 0.8 h s) to its
    variance. The widest grid is taken that adds at most about 0.05 % to the variance of the whole (0.2 % if many
    settings make it slow), but no finer than some 100,000 cells allow. The result is pessimistic at any width. The
    width decides only its precision.
    """
    if any(noise < 1e-3 for noise, _, _ in steps):
        return None
    moments = [(*_moments(noise, probability, group), times) for noise, probability, times in steps]
    mean = math.fsum(times * mean for mean, _, times in moments)
    variance = math.fsum(times * spread**2 for _, spread, times in moments)
    single = max(10 * group / noise + 0.5 * (group / noise) ** 2 for noise, _, _ in steps)
    coarsest_needed = max(single / 2**16, (mean + 20 * math.sqrt(variance) + single) / 2**18)
    if coarsest_needed > 0.5:
        return None

    def added(width: float) -> float:
        return math.fsum(times * min(width**2 / 6, 0.8 * width * spread) for _, spread, times in moments)

    tolerance = 0.0005 if len(steps) <= 16 else 0.002
    exponent = -1
    while added(2.0**exponent) > tolerance * variance and 2.0 ** (exponent - 1) >= coarsest_needed:
        exponent -= 1
    return 2.0**exponent


@lru_cache(maxsize=1024)
def _moments(noise: float, probability: float, group: int) -> tuple[float, float]:
    """Mean and standard deviation of one step's loss when units are removed, by the trapezoidal rule."""
    x = np.linspace(-_TAILS * noise, group + _TAILS * noise, 2048)
    loss = _loss(x, noise, probability, group)
    density = np.exp(loss - 0.5 * (x / noise) ** 2)
    density /= density.sum()
    mean = float(density @ loss)
    return max(mean, 0.0), max(math.sqrt(density @ (loss - mean) ** 2), 1e-12)


def _loss(x: Reals, noise: float, probability: float, group: int) -> Reals:
    """log of density with the group over density without it, at output x in clipping norms. It rises with x."""
    counts, weights = _drawn(probability, group)
    found: Reals = logsumexp(weights + (counts * x[:, None] - counts**2 / 2) / noise**2, axis=1)
    return found


@lru_cache(maxsize=256)
def _drawn(probability: float, group: int) -> tuple[Reals, Reals]:
    """How many of the group are drawn, 0 to k, and the log of each one's binomial probability."""
    counts = np.arange(group + 1.0)
    ways = gammaln(group + 1) - gammaln(counts + 1) - gammaln(group - counts + 1)
    missed = np.where(counts == group, 0.0, (group - counts) * math.log1p(-probability) if probability < 1 else -np.inf)
    return counts, ways + counts * math.log(probability) + missed


def _where(losses: Reals, noise: float, probability: float, group: int) -> Reals:
    """Return the outputs at which `_loss` takes these values, and minus infinity below all its values."""
    counts, weights = _drawn(probability, group)
    possible = losses > weights[0]
    wanted = losses[possible]
    if group == 1:
        with np.errstate(divide="ignore"):  # so near the lowest loss that nothing tells them apart
            ratio = np.log1p(np.expm1(np.minimum(wanted, 30.0)) / probability) if probability < 1 else wanted
        x = noise**2 * np.where(wanted > 30.0, wanted - math.log(probability), ratio) + 0.5
    else:
        # Each term alone bounds the convex, rising sum from below, so Newton comes down from the right to its root.
        x = np.min((wanted[:, None] - weights[1:]) * noise**2 / counts[1:] + counts[1:] / 2, axis=1)
        for _ in range(100):
            terms = weights + (counts * x[:, None] - counts**2 / 2) / noise**2
            level = logsumexp(terms, axis=1)
            slope = (np.exp(terms - level[:, None]) @ counts) / noise**2
            step = np.divide(level - wanted, slope, out=np.zeros_like(level), where=slope > 0)
            x = x - step
            if np.all(np.abs(step) <= 1e-12 * (1 + np.abs(x))):
                break
    found = np.full_like(losses, -np.inf)
    found[possible] = x
    return found


def _step(noise: float, probability: float, group: int, width: float) -> Any:
    """One step: when units are removed, a mixture of Gaussians against one at 0. If they are added, the reverse."""
    counts, weights = _drawn(probability, group)
    shares = np.exp(weights)
    low, mid, high = _loss(np.array([-1.0, 1.0, 1.0]) * _TAILS * noise + [0, 0, group], noise, probability, group)

    def removed(epsilons: Reals) -> Reals:
        x = _where(epsilons, noise, probability, group)
        return np.asarray(ndtr((counts - x[:, None]) / noise) @ shares - np.exp(epsilons + log_ndtr(-x / noise)))

    def added(epsilons: Reals) -> Reals:
        x = _where(-epsilons, noise, probability, group)
        with_group = logsumexp(weights + log_ndtr((x[:, None] - counts) / noise), axis=1)
        return np.asarray(ndtr(x / noise) - np.exp(epsilons + with_group))

    directions = []
    for divergence, lowest, highest in ((removed, low, high), (added, -mid, -low)):
        first, last = math.floor(lowest / width), math.ceil(highest / width)
        deltas = np.clip(divergence(np.arange(first, last + 1) * width), 0.0, 1.0)
        falling = np.maximum.accumulate(deltas[::-1])[::-1]  # rounding errors must not make them rise
        directions.append(pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(width, first, last, falling))
    return privacy_loss_distribution.PrivacyLossDistribution(*directions)


@lru_cache(maxsize=128)
def _power(noise: float, probability: float, group: int, width: float, exponent: int) -> Any:
    """2**exponent steps of one setting, by squaring."""
    if not exponent:
        return _step(noise, probability, group, width)
    half = _power(noise, probability, group, width, exponent - 1)
    return half.compose(half)


@lru_cache(maxsize=128)
def _repeated(steps: Steps, group: int, width: float) -> Any:
    noise, probability, times = steps
    bits = [bit for bit in range(times.bit_length()) if times >> bit & 1]
    return reduce(_compose, (_power(noise, probability, group, width, bit) for bit in bits))


@lru_cache(maxsize=16)
def _product(steps: tuple[Steps, ...], group: int, width: float) -> Any:
    """Pairs of neighbours, then pairs of pairs: short distributions meet short ones."""
    parts = [_repeated(each, group, width) for each in steps]
    while len(parts) > 1:
        parts = [_compose(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    return parts[0]


def _compose(left: Any, right: Any) -> Any:
    return left.compose(right)

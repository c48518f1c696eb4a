"""Admit trainings to a ledger whose limit holds even if each training is chosen after the results of earlier ones.

Privacy-loss distributions (`common.privacy.pld`) compose mechanisms that were fixed beforehand. As a limit on runs that
somebody chooses one after another they are not valid (arXiv 2602.15815). A Rényi filter is (Feldman and Zrnic, arXiv
2008.11193). A ledger is in one of two modes, and its first private training decides which, before any result exists.

**Filter.** Let L be the privacy loss of everything admitted, and R(a) the sum of the Rényi divergences of order a.
For each order, exp((a - 1) (L - R(a))) is a supermartingale, whatever is chosen when. A training is admitted if some
order a of a fixed grid has R(a) <= B(a) afterwards, with

    B(a) = epsilon - (log(c(a)) + log(1 / (w(a) delta))) / (a - 1),    c(a) = (1 - 1/a)^a / (a - 1),

and weights w(a) whose sum is 1. Since (1 - exp(epsilon - L))+ <= c(a) exp((a - 1) (L - epsilon)), the outcomes whose
last admission used order a contribute at most w(a) delta. All outcomes together contribute at most delta, so everything
admitted is (epsilon, delta)-DP. The grid and the weights follow from the limit alone. An order near the best one for
Gaussian noise at this limit has three quarters of the weight.

**One mechanism.** If the first run, with the number of steps that it declares, does not fit the filter, the ledger is
kept for its mechanism: one noise multiplier and one sampling probability. Further steps of that mechanism are admitted
while the privacy-loss distribution of all of them stays within the limit, and nothing else ever is. There is nothing to
choose but the end, so the tight figure is valid: a run that was calibrated to the limit fits exactly.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.privacy.accounting import MAX_STEPS, DpSgdEvent, PrivacyLimit, epsilon, steps_by_mechanism

__all__ = ["Spending", "filter_epsilon", "fits", "is_kept_for_one_mechanism", "renyi_divergence", "steps_left"]

_RATIO, _STEPS_ASIDE = 1.3, 10  # neighbouring values of (order - 1), and orders on each side of the main one
_MAIN_WEIGHT = 0.75
_CLOSED_FORM_NOISE = 0.05  # below it sampling is ignored, which is an upper bound
_TAILS, _POINTS = 12.0, 24  # range and points of the quadrature, in standard deviations and per standard deviation


@dataclass(frozen=True)
class Spending:
    """One training in a ledger, as far as admission concerns it.

    Attributes:
        event: The mechanism that is charged.
        run_steps: Steps of the whole run, declared with its first training. None if they were not declared.
    """

    event: DpSgdEvent
    run_steps: int | None = None


def filter_epsilon(events: Iterable[DpSgdEvent], limit: PrivacyLimit) -> float:
    """Return the smallest epsilon, at the limit's delta, that the filter of `limit` proves for these events.

    The events are admitted exactly if it is at most `limit.epsilon`. It is infinite without noise.

    >>> round(filter_epsilon([DpSgdEvent(4.0, 0.25, 400)], PrivacyLimit(8.0, 1e-6)), 2)
    7.3
    """
    total = _divergences(events, limit)
    return max(0.0, float(np.min(total + _cost(limit)))) if np.any(total) else 0.0


def fits(spent: Sequence[Spending], new: Spending, limit: PrivacyLimit) -> bool:
    """Return whether the limit admits `new` after everything in `spent`."""
    history = [*spent, new]
    if is_kept_for_one_mechanism(history, limit):
        return len(_mechanisms(history)) <= 1 and epsilon([s.event for s in history], limit.delta) <= limit.epsilon
    return filter_epsilon([s.event for s in history], limit) <= limit.epsilon


def is_kept_for_one_mechanism(history: Sequence[Spending], limit: PrivacyLimit) -> bool:
    """Return whether the first private training of `history` keeps the ledger for its own mechanism."""
    first = next((s for s in history if s.event.noise_multiplier and s.event.steps), None)
    if first is None:
        return False
    whole = replace(first.event, steps=min(max(first.event.steps, first.run_steps or 0), MAX_STEPS))
    return not filter_epsilon([whole], limit) <= limit.epsilon


def steps_left(spent: Sequence[Spending], new: Spending, limit: PrivacyLimit) -> int:
    """Return how many more steps of `new.event` the limit admits. The event's own number of steps does not matter.

    `MAX_STEPS` means that there are at least that many.
    """

    def fit(steps: int) -> bool:
        return fits(spent, replace(new, event=replace(new.event, steps=steps)), limit)

    if not fit(1):
        return 0
    low, high = 1, 2
    while high <= MAX_STEPS and fit(high):
        low, high = high, high * 2
    if high > MAX_STEPS:
        if fit(MAX_STEPS):
            return MAX_STEPS
        high = MAX_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


@lru_cache(maxsize=4096)
def renyi_divergence(noise_multiplier: float, sampling_probability: float, order: float) -> float:
    """Return the Rényi divergence of one step for one unit added or removed, by quadrature.

    It is that of a mixture of two Gaussians against one, which bounds the reverse direction too (arXiv 1908.10530,
    theorem 5). At small noise it is the divergence without sampling, which is larger.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sampling_probability: Of each unit at each step.
        order: Above 1.
    """
    if noise_multiplier == 0:
        return math.inf
    if sampling_probability == 1 or noise_multiplier < _CLOSED_FORM_NOISE:
        return order / (2 * noise_multiplier**2)
    # Outputs in standard deviations of the noise. The integrand lies around 0 and, tilted, around order / noise.
    shift = 1 / noise_multiplier
    low, high = -_TAILS, order * shift + _TAILS
    z = np.linspace(low, high, math.ceil((high - low) * _POINTS) + 1)
    with np.errstate(divide="ignore"):
        loss = np.logaddexp(math.log1p(-sampling_probability), math.log(sampling_probability) + shift * (z - shift / 2))
    exponents = order * loss - z**2 / 2 - math.log(2 * math.pi) / 2
    highest = float(exponents.max())
    moment = highest + math.log(float(np.exp(exponents - highest).sum()) * (z[1] - z[0]))
    return max(moment, 0.0) / (order - 1) * (1 + 1e-9) + 1e-15


@lru_cache(maxsize=64)
def _grid(limit: PrivacyLimit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the orders and their weights, whose sum is 1."""
    log_delta = -math.log(limit.delta)
    # The Gaussian that spends the limit: its divergence of order a is `spent` a, and its best order is near
    # 1 + sqrt(log(1 / delta) / spent). Sampled steps want a smaller order, hence 0.75.
    spent = (math.sqrt(log_delta + min(limit.epsilon, 1e6)) - math.sqrt(log_delta)) ** 2
    main = min(max(0.75 * math.sqrt(log_delta / spent), 1e-3), 1e5)
    places = range(-_STEPS_ASIDE, _STEPS_ASIDE + 1)
    shares = [0.0 if place == 0 else 2.0 ** -abs(place) for place in places]
    weights = [(1 - _MAIN_WEIGHT) * share / math.fsum(shares) if share else _MAIN_WEIGHT for share in shares]
    return tuple(1 + main * _RATIO**place for place in places), tuple(weights)


def _cost(limit: PrivacyLimit) -> NDArray[np.float64]:
    """Return epsilon - B(a) of every order: the price of the conversion from Rényi divergence to epsilon and delta."""
    orders, weights = (np.array(each) for each in _grid(limit))
    log_c = orders * np.log1p(-1 / orders) - np.log(orders - 1)
    result: NDArray[np.float64] = (log_c - np.log(weights * limit.delta)) / (orders - 1)
    return result


def _divergences(events: Iterable[DpSgdEvent], limit: PrivacyLimit) -> NDArray[np.float64]:
    orders, _ = _grid(limit)
    total = np.zeros(len(orders))
    for (noise, probability), steps in steps_by_mechanism(events).items():
        total += steps * np.array([renyi_divergence(noise, probability, order) for order in orders])
    return total


def _mechanisms(history: Sequence[Spending]) -> set[tuple[float, float]]:
    return set(steps_by_mechanism(spending.event for spending in history))

"""Whole noise by each institution, or noise once under secure aggregation: which leaves less, before a run is begun.

The noise of a round's mean is compared, since that is known beforehand. It is given as the size of one institution
alone whose update has as much noise: more units mean less noise.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.canonical import MAX_DECLARED_UNITS
from common.errors import ConfigurationError
from common.privacy.accounting import MAX_STEPS, DpSgdEvent, calibrate, epsilon
from common.privacy.charges import alone
from common.weighting import Weighting, noise_equivalent_units, weights

__all__ = ["NoisePlan", "compare"]

_ROUNDED = 1e-9
_EACH: tuple[Weighting, ...] = ("declared_units", "inverse_variance")


@dataclass(frozen=True)
class NoisePlan:
    """The two ways for given institutions.

    Attributes:
        noise_multiplier: Noise that meets the target, in clipping norms. With noise once it is that of the sum.
        pooled: Units of all institutions together: the noise of one that holds all rows.
        once: Size of one institution whose update has the noise of the mean with noise once.
        each: The same with the whole noise by each, by the rule of weighting.
        epsilon: The target. With the whole noise by each it holds against all others together.
        epsilon_alone: With noise once, the epsilon against the hub and all other institutions together.
        least_threshold: Smallest `aggregation.threshold` that goes with the assumption.
    """

    noise_multiplier: float
    pooled: int
    once: float
    each: dict[Weighting, float]
    epsilon: float
    epsilon_alone: float
    least_threshold: int

    @property
    def better(self) -> str:
        """The way that leaves less noise: "once", "each" or "equal"."""
        ratio = self.once / max(self.each.values())
        return "equal" if abs(ratio - 1) < _ROUNDED else ("once" if ratio > 1 else "each")

    def to_json(self) -> dict[str, Any]:
        """Return the fields, and the better way."""
        return asdict(self) | {"better": self.better}


def compare(
    sizes: Sequence[int], honest: int, target_epsilon: float, delta: float, sampling_rate: float, rounds: int
) -> NoisePlan:
    """Compare the noise of the weighted mean of one round, with one local step, in which all take part.

    Args:
        sizes: Declared units of each institution.
        honest: Institutions assumed honest among any `threshold` of them.
        target_epsilon: Target of each institution for the whole run.
        delta: Delta of that target.
        sampling_rate: Share of its units that an institution uses in a round.
        rounds: Rounds of the run.

    Raises:
        ConfigurationError: A number out of range.
    """
    number = len(sizes)
    if number < 2 or not all(1 <= size <= MAX_DECLARED_UNITS for size in sizes):
        raise ConfigurationError(
            f"--sizes: give the units of two institutions or more, each between 1 and {MAX_DECLARED_UNITS:,}"
        )
    if not 2 <= honest <= number:
        raise ConfigurationError(f"--honest is {honest}: use 2 to {number}, the number of institutions")
    if not 0 < sampling_rate <= 1:
        raise ConfigurationError(f"--sampling-rate is {sampling_rate}: use a share above 0 and at most 1")
    if not 1 <= rounds <= MAX_STEPS:
        raise ConfigurationError(f"--rounds is {rounds}: use 1 to {MAX_STEPS:,}")
    noise = calibrate(target_epsilon, delta, sampling_rate, rounds)
    event = DpSgdEvent(noise, sampling_rate, rounds)
    declared = {str(place): size for place, size in enumerate(sizes)}
    each = {rule: noise_equivalent_units(declared, weights(dict(declared), rule)) for rule in _EACH}
    return NoisePlan(
        noise_multiplier=noise,
        pooled=sum(sizes),
        # Each institution's part of the noise is smaller by the root of `honest`, and weights are by declared size.
        once=each["declared_units"] * math.sqrt(honest),
        each=each,
        epsilon=epsilon([event], delta),
        epsilon_alone=epsilon([alone(event, honest)], delta),
        least_threshold=max(honest, number - honest + 1),
    )

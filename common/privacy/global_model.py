"""Privacy against parties that see only the global models, which hold the noise of several institutions.

A round with plain SGD moves the global model by the weighted mean of the institutions' steps. Institution j divides its
noised sum by a constant L_j, and the hub weights it by w_j. So the noise in the mean is a sum of independent Gaussians,
of standard deviation sqrt(sum of (w_j s_j C_j / L_j)^2) times the learning rate, while one unit of institution i moves
the mean by at most w_i C_i / L_i times the learning rate. Their ratio is the noise multiplier that counts.

This holds for the last local step of a round. The noise of other institutions does not enter the earlier steps, so
these count with the institution's own noise alone.

Assumed beside the proof: the other institutions add their noise and do not pass it on, the hub shows nothing but the
global models and refuses no contribution for its size, and numbers are real. The guarantee against the hub
needs none of this, and holds for the bits.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from common.privacy.accounting import LARGEST_NOISE, DpSgdEvent

__all__ = ["Share", "alike", "noise_ratio", "seen_in_global_models"]


@dataclass(frozen=True)
class Share:
    """The part of one institution in the mean of a round.

    Attributes:
        weight: Of its contribution in the mean.
        noise: Standard deviation of the noise in its sum of gradients: noise multiplier times clipping norm.
        divisor: Constant by which it divides the noised sum.
    """

    weight: float
    noise: float
    divisor: float

    @property
    def deviation(self) -> float:
        """Standard deviation of its noise in the mean, for a learning rate of 1."""
        return self.weight * self.noise / self.divisor


def noise_ratio(shares: Mapping[str, Share], name: str) -> float:
    """Return the standard deviation of all noise in the mean over that of the noise of institution `name`.

    1 if that institution adds no noise: then nothing is claimed for it.

    >>> bank = Share(weight=0.5, noise=1.0, divisor=64.0)
    >>> round(noise_ratio({"a": bank, "b": bank}, "a"), 3)
    1.414
    """
    own = shares[name].deviation
    if not own:
        return 1.0
    return math.sqrt(math.fsum((share.deviation / own) ** 2 for share in shares.values()))


def alike(others: int) -> float:
    """Return the least `noise_ratio` if `others` institutions add as much noise to the mean as this one, or more."""
    return math.sqrt(1 + others)


def seen_in_global_models(rounds: Iterable[tuple[DpSgdEvent, float]]) -> list[DpSgdEvent]:
    """Return the mechanism of one institution's trainings, as the global models show them.

    Args:
        rounds: The steps of each local training, and the `noise_ratio` of the round.
    """
    events: list[DpSgdEvent] = []
    for event, ratio in rounds:
        if event.steps:
            noise = min(event.noise_multiplier * ratio, LARGEST_NOISE)
            events += [replace(event, steps=event.steps - 1), replace(event, noise_multiplier=noise, steps=1)]
    return [event for event in events if event.steps]

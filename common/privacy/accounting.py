"""Privacy events -> epsilon, and target epsilon -> noise multiplier.

Adjacency: add or remove one unit, a record or a customer. Mechanism: Poisson-subsampled Gaussian (DP-SGD, arXiv
1607.00133). Figure of record: privacy-loss distributions (`common.privacy.pld`), which estimate pessimistically:
the true epsilon is at most the one given. RDP stands beside it as a check. Epsilon is a fold over immutable events and
knows nothing of rounds, runs or files.

>>> round(epsilon([DpSgdEvent(1.0, 0.01, 1000)], 1e-5), 2)
1.83
>>> round(epsilon([DpSgdEvent(1.0, 0.01, 600), DpSgdEvent(1.0, 0.01, 400)], 1e-5), 2)
1.83
>>> calibrate(3.0, 1e-5, 0.02, 2000)
1.452
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from common.errors import ConfigurationError, LedgerError

if TYPE_CHECKING:
    from common.privacy.pld import PrivacyLossDistribution

if TYPE_CHECKING:  # it needs scipy, which takes a while to load
    pass

__all__ = [
    "LARGEST_NOISE",
    "MAX_STEPS",
    "DpSgdEvent",
    "PrivacyLimit",
    "calibrate",
    "epsilon",
    "epsilon_rdp",
    "loss_distribution",
    "steps_by_mechanism",
]

MAX_STEPS = 1_000_000
"""The most steps one event may have, and the most that `filter.steps_left` reports."""
_KIND = "dp_sgd"
_LOWEST_NOISE, _HIGHEST_NOISE = 0.05, 1e5  # of `calibrate`
LARGEST_NOISE = 1e6
"""The largest noise multiplier of an event."""
_NO_NOISE = 1e-3  # below it one step alone costs an epsilon above 100,000


@dataclass(frozen=True)
class DpSgdEvent:
    """`steps` steps of DP-SGD, each on a Poisson sample. The event does not depend on the delta of a later question.

    noise_multiplier: standard deviation of the Gaussian noise over the clipping norm. 0 is no privacy (epsilon inf),
        1,000,000 is the maximum.
    sampling_probability: of each record at each step, independently. 0 touches no data, 1 is the plain Gaussian
        mechanism.

    Raises:
        LedgerError: a value that cannot be one.
    """

    noise_multiplier: float
    sampling_probability: float
    steps: int

    def __post_init__(self) -> None:
        for name, highest in (("noise_multiplier", LARGEST_NOISE), ("sampling_probability", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise LedgerError(f"privacy event: {name} is not a number")
            if not 0 <= value <= highest:
                raise LedgerError(f"privacy event: {name} is {value}: it must be from 0 to {highest:,.0f}")
            object.__setattr__(self, name, float(value))
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 0 <= self.steps <= MAX_STEPS:
            raise LedgerError(f"privacy event: steps must be a whole number from 0 to {MAX_STEPS}")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object. Floats keep every bit."""
        return {
            "kind": _KIND,
            "noise_multiplier": self.noise_multiplier,
            "sampling_probability": self.sampling_probability,
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, fields: object) -> Self:
        """Read the object that `to_json` gave.

        Raises:
            LedgerError: any other object: an event that is not understood is never skipped.
        """
        names = {"noise_multiplier", "sampling_probability", "steps"}
        if not isinstance(fields, Mapping) or set(fields) != names | {"kind"} or fields["kind"] != _KIND:
            raise LedgerError(
                "privacy event of an unknown kind: this version cannot account for it; use the one that can"
            )
        return cls(**{name: fields[name] for name in names})


@dataclass(frozen=True)
class PrivacyLimit:
    """The most that may be spent: `epsilon` at `delta`."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _check_delta(self.delta)
        if not _is_number(self.epsilon) or not self.epsilon > 0:
            raise ConfigurationError(f"privacy limit: epsilon is {self.epsilon}: use a number above 0")


def steps_by_mechanism(events: Iterable[DpSgdEvent]) -> dict[tuple[float, float], int]:
    """Steps by (noise multiplier, sampling probability), in order of first appearance. Events that cost nothing are
    left out.
    """
    groups: dict[tuple[float, float], int] = {}
    for event in events:
        if not isinstance(event, DpSgdEvent):
            raise LedgerError(f"privacy events: one is a {type(event).__name__}: give DpSgdEvent")
        if event.steps and event.sampling_probability:
            key = (event.noise_multiplier, event.sampling_probability)
            groups[key] = groups.get(key, 0) + event.steps
    return groups


def loss_distribution(events: Iterable[DpSgdEvent], group: int = 1) -> "PrivacyLossDistribution | None":
    """The privacy loss of all events together, for `group` units added or removed at once. Return None if it is
    infinite.

    Raises:
        ConfigurationError: a group of fewer than 1 or more than 100 units.
    """
    if not 1 <= group <= 100:
        raise ConfigurationError(f"group privacy: a group of {group} units: ask for 1 to 100")
    from common.privacy.pld import composed

    return composed(_composable(steps_by_mechanism(events)), group)


def epsilon(events: Iterable[DpSgdEvent], delta: float, group: int = 1) -> float:
    """The epsilon, at `delta`, of all events together: never below the true one, at most about 0.2 % above it.

    `group`: units (records or customers) that are added or removed together.

    | events | result |
    |---|---|
    | none, or only ones that touch no data | 0.0 |
    | one without noise | inf |
    | so little noise that epsilon passes about 100,000 | inf |
    | sampling probabilities below 1e-3 | some percent above, below 1e-4 tens of percent |

    Raises:
        ConfigurationError: delta is not between 0 and 1, or a group that cannot be one.
    """
    _check_delta(delta)
    losses = loss_distribution(events, group)
    return math.inf if losses is None else losses.epsilon(delta)


def epsilon_rdp(events: Iterable[DpSgdEvent], delta: float) -> float:
    """The same by Rényi DP (arXiv 1908.10530): an independent, looser bound, for a check.

    Raises:
        ConfigurationError: delta is not between 0 and 1.
    """
    _check_delta(delta)
    groups = steps_by_mechanism(events)
    if not groups:
        return 0.0
    if any(noise == 0 for noise, _ in groups):
        return math.inf
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.rdp import RdpAccountant

    # Whole orders only: fractional ones do not always converge, and then say so on the log.
    accountant = RdpAccountant([*range(2, 64), *range(64, 257, 16), 512, 1024])
    for (noise, probability), steps in groups.items():
        accountant.compose(SelfComposedDpEvent(PoissonSampledDpEvent(probability, GaussianDpEvent(noise)), steps))
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=64)
def calibrate(target_epsilon: float, delta: float, sampling_probability: float, steps: int) -> float:
    """The smallest noise multiplier, to 0.1 %, with which `steps` steps stay within `target_epsilon` at `delta`.

    The returned value was checked: its `epsilon` is at most the target. Never below 0.05, however large the target.
    Give the largest possible number of steps, not the expected number.

    Raises:
        ConfigurationError: a value out of range, or a target that no usable noise reaches.
    """
    _check_delta(delta)
    if not _is_number(target_epsilon) or not 0 < target_epsilon < math.inf:
        raise ConfigurationError(f"privacy.target_epsilon is {target_epsilon}: use a number above 0")
    numbers = _is_number(sampling_probability) and type(steps) is int
    if not numbers or not 0 < sampling_probability <= 1 or not 1 <= steps <= MAX_STEPS:
        raise ConfigurationError("calibration needs a sampling probability in (0, 1] and between 1 and 1,000,000 steps")

    def fits(noise: float) -> bool:
        return epsilon([DpSgdEvent(noise, sampling_probability, steps)], delta) <= target_epsilon

    high = 1.0
    while not fits(high):
        high *= 2
        if high > _HIGHEST_NOISE:
            raise ConfigurationError(
                f"privacy.target_epsilon {target_epsilon:g} at delta {delta:g} cannot be reached over {steps} steps: "
                "train fewer steps, sample fewer records, or allow more"
            )
    low = high / 2
    while low > _LOWEST_NOISE and fits(low):
        high, low = low, low / 2
    low = max(low, _LOWEST_NOISE)
    while high / low > 1.0003:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    for digits in (4, 5, 6):
        rounded = _round_up(high, digits)
        if rounded <= high * 1.0006 and fits(rounded):
            return rounded
    return high


def _check_delta(delta: float) -> None:
    if not _is_number(delta) or not 0 < delta < 1:
        raise ConfigurationError(f"privacy.delta is {delta}: use a number between 0 and 1, below one over the records")


def _is_number(value: object) -> bool:
    """Whether `value` is an integer or a float. Callers from Python may pass anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _round_up(value: float, digits: int) -> float:
    places = digits - 1 - math.floor(math.log10(value))
    scale = math.pow(10.0, places)
    return round(math.ceil(value * scale) / scale, places)


def _composable(folded: Mapping[tuple[float, float], int]) -> tuple[tuple[float, float, int], ...]:
    """Steps to compose. Gaussians without sampling become the one Gaussian that they are together, exactly."""
    sampled = [(noise, probability, steps) for (noise, probability), steps in folded.items() if probability < 1]
    plain = [(noise, steps) for (noise, probability), steps in folded.items() if probability == 1]
    if not plain:
        return tuple(sampled)
    if any(noise < _NO_NOISE for noise, _ in plain):
        return ((0.0, 1.0, 1), *sampled)
    return ((1 / math.sqrt(math.fsum(steps / noise**2 for noise, steps in plain)), 1.0, 1), *sampled)

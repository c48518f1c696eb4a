"""Combine contributions in pure NumPy. The result depends on names and values, never on the order of arrival.

Averaging is exact if one LoRA factor is common to all (`trained_factors = "B"`). With A and B both averaged, the mean
of the products differs from the product of the means by the covariance of the factors (FFA-LoRA, arXiv 2403.12313).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.config.aggregation import AggregationConfig
from common.errors import AdapterRefused
from common.protocol.adapter_codec import Tensors

__all__ = [
    "OptimizerState",
    "ServerOptimizer",
    "optimizer_of_round",
    "update_norm",
    "weighted_mean",
]

_SECOND_DECAY = 0.99
_ADAPTIVITY = 1e-3
"""Decay of FedAdam's second moment, and its adaptivity (Reddi et al. 2021, arXiv 2003.00295, section 5)."""
_MOMENTS = {"none": (), "momentum": ("first",), "adam": ("first", "second")}

OptimizerState = dict[str, Tensors]
"""The moments of a server optimiser. Each has the shapes of the adapter."""


def weighted_mean(adapter_of: Callable[[str], Tensors], shares: Mapping[str, float]) -> Tensors:
    """Return the weighted mean of each tensor, added in float64 in order of name and rounded to float32 once.

    One adapter at a time is held beside the sum.

    Args:
        adapter_of: Returns the adapter of an institution. All have the same names and shapes and finite values.
        shares: Weight of each institution. They sum to 1.
    """
    totals: dict[str, NDArray[np.float64]] = {}
    for name, share in sorted(shares.items()):
        for tensor, values in sorted(adapter_of(name).items()):
            total = totals.setdefault(tensor, np.zeros(values.shape))
            total += share * values.astype(np.float64)
    return {tensor: total.astype(np.float32) for tensor, total in totals.items()}


def update_norm(adapter: Tensors, base: Tensors) -> float:
    """Return the Euclidean norm of `adapter - base` over all tensors, in float64."""
    squares = 0.0
    for name in sorted(base):
        difference = adapter[name].astype(np.float64) - base[name]
        squares += float(np.square(difference).sum())
    return float(np.sqrt(squares))


@dataclass(frozen=True)
class ServerOptimizer:
    """Uses d = `mean - current` as a pseudo-gradient (arXiv 2003.00295).

    none      current + rate * d
    momentum  current + rate * v            with v = momentum * v + d  (FedAvgM)
    adam      current + rate * m / (sqrt(v) + .001)
              with m = momentum * m + (1 - momentum) * d and v = .99 v + .01 d^2
              (FedAdam: v begins at .001^2 and there is no bias correction)

    With "none" and rate 1 the result is the mean itself, bit for bit.
    """

    kind: Literal["none", "momentum", "adam"] = "none"
    rate: float = 1.0
    momentum: float = 0.9

    def step(self, current: Tensors, mean: Tensors, state: OptimizerState) -> tuple[Tensors, OptimizerState]:
        """Return the next adapter and optimiser state. The arguments are not changed.

        Args:
            current: The global adapter.
            mean: Weighted mean of the contributions, with the same names and shapes.
            state: Moments after the last step. Empty before the first.

        Raises:
            AdapterRefused: Code "non_finite": the step exceeds the range of float32.
        """
        if self.kind == "none" and self.rate == 1.0:
            return mean, {}
        after: Tensors = {}
        kept: OptimizerState = {moment: {} for moment in _MOMENTS[self.kind]}
        for name in sorted(current):
            here = current[name].astype(np.float64)
            difference = mean[name] - here
            moments = self._moments(difference, {moment: tensors[name] for moment, tensors in state.items()})
            for moment, values in moments.items():
                kept[moment][name] = values
            after[name] = _single(here + self.rate * _direction(difference, moments))
        return after, kept

    def _moments(self, difference: NDArray[np.float64], before: Tensors) -> Tensors:
        """Return the moments of one tensor in float32, the precision that is saved, so that a resumed run is equal."""
        if self.kind == "none":
            return {}
        first = self.momentum * before.get("first", np.float32(0)).astype(np.float64)
        if self.kind == "momentum":
            return {"first": _single(first + difference)}
        second = before.get("second", np.float32(_ADAPTIVITY**2)).astype(np.float64)
        return {
            "first": _single(first + (1 - self.momentum) * difference),
            "second": _single(_SECOND_DECAY * second + (1 - _SECOND_DECAY) * difference**2),
        }


def optimizer_of_round(settings: AggregationConfig, round_: int, rounds: int) -> ServerOptimizer:
    """Return the run's optimiser in round `round_` (from 1) of `rounds`.

    Over the last `server_decay_rounds` rounds the rate falls linearly, to 1 / `server_decay_rounds` in the last one.
    """
    left = rounds - round_ + 1
    decay = min(1.0, left / settings.server_decay_rounds) if settings.server_decay_rounds else 1.0
    return ServerOptimizer(settings.server_optimizer, settings.server_learning_rate * decay, settings.server_momentum)


def _direction(difference: NDArray[np.float64], moments: Tensors) -> NDArray[np.float64]:
    if not moments:
        return difference
    first = moments["first"].astype(np.float64)
    if "second" not in moments:
        return first
    return np.asarray(first / (np.sqrt(moments["second"].astype(np.float64)) + _ADAPTIVITY))


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        single = np.asarray(values).astype(np.float32)
    if not np.isfinite(single).all():
        raise AdapterRefused(
            "non_finite",
            "global adapter: the server's step overflows: set aggregation.max_update_norm, or a lower rate",
        )
    return single

"""The step that the hub takes with a sum of noised gradients, in place of each institution with its own."""

import math

import numpy as np
from numpy.typing import NDArray

from common.errors import SecureAggregationRefused
from common.protocol.adapter_codec import Tensors
from common.secure_aggregation.sums import grid_step
from server.rounds.assignments import FederationContext

__all__ = ["step_from_sum"]


def step_from_sum(
    adapter: Tensors, total: NDArray[np.int64], bits: int, batch: float, federation: FederationContext
) -> Tensors:
    """Return the adapter after one step of SGD with the mean gradient of all units in the sum.

    Args:
        adapter: The global adapter.
        total: (P,) sum in steps of the grid, in order of the names of the tensors.
        bits: Width of the sum.
        batch: Divisor of the sum: the sampling rate times the sizes of the institutions that are in it.
        federation: The run, and the tensors with the learning rate of the head.

    Raises:
        SecureAggregationRefused: The masks did not cancel, or the update is longer than the run allows.
    """
    training, step = federation.config.training, grid_step(federation.config.privacy.clipping_norm)
    sums = total.astype(np.float64) * step
    length = float(np.sqrt(sums @ sums))
    # The remainders of masks that did not cancel are uniform over the whole range.
    if length > 2.0**bits * step * math.sqrt(total.size / 12) / 2:
        raise SecureAggregationRefused("error", "secure aggregation: the masks of the sum did not cancel")
    head_rate, most = (
        training.head_learning_rate or training.learning_rate,
        federation.config.aggregation.max_update_norm,
    )
    if most is not None and length / batch * max(training.learning_rate, head_rate) > most:
        raise SecureAggregationRefused("norm", "secure aggregation: the update is above max_update_norm")
    after: Tensors = {}
    start = 0
    for name, shape, _ in federation.spec.tensors:
        size = math.prod(shape)
        rate = head_rate if name in federation.head_names else training.learning_rate
        change = sums[start : start + size].reshape(shape) * (rate / batch)
        after[name] = (adapter[name].astype(np.float64) - change).astype(np.float32)
        start += size
    return after

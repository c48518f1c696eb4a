"""How far one unit moves the integer sum of a step, at adapters that a hub could choose to make it move far.

The sums are read from the running training loop before noise is added. Distances are exact integers.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from client.audit.subject import units_of
from client.dp.grid import Grid
from client.dp.mechanism import make_private
from client.dp.noise import SystemNoise
from client.dp.threads import one_thread
from client.dp.training import DpTrainingPlan, accumulate_batch, optimizer_for, training_mode
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.protocol.adapter_codec import Tensors
from common.tokenization.batches import TokenizedSet

__all__ = ["hostile_adapters", "integer_sum", "movement"]

_LARGEST = float(np.finfo(np.float32).max)


def integer_sum(
    model: AdaptedModel, data: TokenizedSet, rows: NDArray[np.int64], plan: DpTrainingPlan, cache: FeatureCache
) -> NDArray[np.int64]:
    """Return the sum of clipped gradients of the batch `rows` at the adapter that `model` holds, (P,), before noise."""
    if plan.dp is None:
        raise ValueError("the plan has no differential privacy")
    optimizer = optimizer_for(model, plan)
    with one_thread():
        cache.fill(model, data, plan.max_batch_tokens)
        with training_mode(model, plan), make_private(model.module, optimizer, plan.dp, SystemNoise()) as private:
            accumulate_batch(model, data, rows, plan, private, cache)
            total: NDArray[np.int64] = private.sum.take().numpy()
    return total


def movement(model: AdaptedModel, data: TokenizedSet, unit: int, plan: DpTrainingPlan) -> tuple[float, float]:
    """Return how far unit `unit` moves the sum, in clipping norms rounded up: if it is drawn, and if it is not.

    Not drawn, the unit is in the data but not in the batch. `data` carries owners, one for each unit.
    """
    if plan.dp is None or data.owners is None:
        raise ValueError("the plan has no differential privacy, or the data no owners")
    without = units_of(data, np.arange(int(data.owners.max()) + 1) != unit)
    others = np.flatnonzero(data.owners != unit)
    cache = FeatureCache()
    whole = integer_sum(model, data, np.arange(len(data)), plan, cache)
    undrawn = integer_sum(model, data, others, plan, cache)
    less = integer_sum(model, without, np.arange(len(without)), plan, FeatureCache())
    return _length(whole - less, plan), _length(undrawn - less, plan)


def _length(difference: NDArray[np.int64], plan: DpTrainingPlan) -> float:
    grid = Grid(plan.dp.clipping_norm if plan.dp else 1.0)
    squares = sum(int(value) ** 2 for value in difference[difference != 0])
    length = math.isqrt(squares) + (math.isqrt(squares) ** 2 < squares)
    # Compared in integers: at most the radius is at most C.
    return min(1.0, length / grid.radius) if squares <= grid.radius**2 else length / grid.radius


def hostile_adapters(
    model: AdaptedModel, data: TokenizedSet, rng: np.random.Generator
) -> Iterator[tuple[str, Tensors]]:
    """Yield adapters that pass the gate (finite float32) and try to make examples depend on each other, without end.

    Random weights of any size, sizes that differ between tensors, weights that overflow or cancel to NaN, and a head
    that is orthogonal to the features of `data`, so that their rounding decides.
    """
    directions = _orthogonal_head(model, data)
    while True:
        size = 10.0 ** rng.uniform(-6, 38)
        yield "random weights", {n: _finite(rng.normal(size=s) * size) for n, s, _ in model.spec.tensors}
        yield (
            "a size for each tensor",
            {n: _finite(rng.normal(size=s) * 10.0 ** rng.uniform(-6, 38)) for n, s, _ in model.spec.tensors},
        )
        yield "overflow", {n: _finite(rng.choice([-1.0, 1.0], s) * _LARGEST) for n, s, _ in model.spec.tensors}
        kept = 10.0 ** rng.uniform(-5, -1)
        yield (
            "few large weights",
            {
                n: _finite(np.where(rng.random(s) < kept, rng.normal(size=s) * 10.0 ** rng.uniform(0, 38), 0.0))
                for n, s, _ in model.spec.tensors
            },
        )
        moderate = 10.0 ** rng.uniform(-2, 4)
        yield (
            "moderate weights",
            {n: _finite(start + rng.normal(size=start.shape) * moderate) for n, start in model.initial().items()},
        )
        if directions is not None:
            yield "a head orthogonal to the features", _head(model, directions, 10.0 ** rng.uniform(2, 12), rng)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(values), -_LARGEST, _LARGEST).astype(np.float32)


def _orthogonal_head(model: AdaptedModel, data: TokenizedSet) -> NDArray[np.float64] | None:
    """(H,) the direction in which the pooled features of `data` are shortest, or None if the head has other inputs."""
    features = model.features(data)
    if features is None or not features.pooled:
        return None
    values = features.values.to(torch.float64).numpy()
    direction: NDArray[np.float64] = np.linalg.svd(values, full_matrices=True)[2][-1]
    return direction


def _head(model: AdaptedModel, direction: NDArray[np.float64], size: float, rng: np.random.Generator) -> Tensors:
    tensors: Tensors = {name: np.zeros(shape, np.float32) for name, shape, _ in model.spec.tensors}
    for name, value in tensors.items():
        if value.ndim == 2 and value.shape[1] == direction.size and name in model.head_names():
            value[int(rng.integers(value.shape[0]))] = (size * direction).astype(np.float32)
    return tensors

"""How far one unit moves the integer sum of a step, at adapters that a hub could choose to make it move far.

The sums are read from the running training loop before noise is added. Distances are exact integers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.audit.subject import units_of
from client.dp.grid import Grid
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan, optimizer_for
from client.dp.threads import one_thread
from client.dp.training import accumulate_batch, training_mode
from client.dp.workers import private_workers
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.protocol.adapter_codec import Tensors
from common.tokenization.batches import TokenizedSet
from common.tokenization.blocks import Block, block_batch

__all__ = ["Neighbours", "hostile_adapters", "integer_sum", "movement"]

_LARGEST = float(np.finfo(np.float32).max)


def integer_sum(
    model: AdaptedModel, data: TokenizedSet, rows: NDArray[np.int64], plan: DpTrainingPlan, cache: FeatureCache
) -> NDArray[np.int64]:
    """Return the sum of clipped gradients of the batch `rows` at the adapter that `model` holds, (P,), before noise."""
    if plan.dp is None:
        raise ValueError("the plan has no differential privacy")
    optimizer = optimizer_for(model, plan)
    with one_thread() as threads:
        cache.fill(model, data, plan.max_batch_tokens)
        with training_mode(model, plan), private_workers(model, optimizer, plan.dp, SystemNoise(), threads) as workers:
            accumulate_batch(data, rows, plan, workers, cache)
            total: NDArray[np.int64] = workers.private.sum.take().numpy()
    return total


@dataclass(frozen=True)
class Neighbours:
    """Two data sets that differ by one unit, each with the cache of its frozen features.

    Attributes:
        data: Carries owners, one for each unit.
        without: The same data without `unit`.
    """

    data: TokenizedSet
    without: TokenizedSet
    unit: int
    whole_cache: FeatureCache = field(default_factory=FeatureCache)
    cache_without: FeatureCache = field(default_factory=FeatureCache)

    @classmethod
    def of(cls, data: TokenizedSet, unit: int) -> Self:
        """Take unit `unit` out of `data`."""
        if data.owners is None:
            raise ValueError("the data has no owners")
        return cls(data, units_of(data, np.arange(int(data.owners.max()) + 1) != unit), unit)

    @property
    def others(self) -> NDArray[np.int64]:
        """The rows of `data` that are not of `unit`."""
        return np.flatnonzero(self.data.owners != self.unit)


def movement(model: AdaptedModel, neighbours: Neighbours, plan: DpTrainingPlan) -> tuple[float, float]:
    """Return how far the unit moves the sum, in clipping norms rounded up: if it is drawn, and if it is not.

    Not drawn, the unit is in the data but not in the batch.
    """
    data, without = neighbours.data, neighbours.without
    whole = integer_sum(model, data, np.arange(len(data)), plan, neighbours.whole_cache)
    undrawn = integer_sum(model, data, neighbours.others, plan, neighbours.whole_cache)
    less = integer_sum(model, without, np.arange(len(without)), plan, neighbours.cache_without)
    return _length(whole - less, plan), _length(undrawn - less, plan)


def _length(difference: NDArray[np.int64], plan: DpTrainingPlan) -> float:
    grid = Grid(plan.dp.clipping_norm if plan.dp else 1.0)
    moved = difference[difference != 0]
    small = not moved.size or int(np.abs(moved).max()) ** 2 * moved.size < 2**62
    squares = int((moved**2).sum()) if small else sum(int(value) ** 2 for value in moved)
    length = math.isqrt(squares) + (math.isqrt(squares) ** 2 < squares)
    # Compared in integers: at most the radius is at most C.
    return min(1.0, length / grid.radius) if squares <= grid.radius**2 else length / grid.radius


def hostile_adapters(
    model: AdaptedModel, data: TokenizedSet, rng: np.random.Generator
) -> Iterator[tuple[str, Tensors]]:
    """Yield adapters that pass the gate (finite float32) and try to make examples depend on each other, without end.

    Random weights of any size, sizes that differ between tensors, weights that overflow or cancel to NaN, weights that
    overflow at padding alone, and a head that is orthogonal to the features of `data`, so that their rounding decides.
    """
    directions, gate = _orthogonal_head(model, data), _padding_gate(model, data)
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
        if gate is not None:
            yield "overflow at padding alone", _overflow_at_padding(model, *gate, rng)
        if directions is not None:
            yield "a head orthogonal to the features", _head(model, directions, 10.0 ** rng.uniform(2, 12), rng)


_GATE, _BEHIND_GATE = ".intermediate.dense.", ".output.dense."


def _padding_gate(model: AdaptedModel, data: TokenizedSet) -> tuple[str, NDArray[np.float64]] | None:
    """Find a direction that tells padding from tokens before the first adapted feed-forward layer of a BERT.

    Returns:
        The name of that layer's LoRA B and the direction, (rank,), along which its input is negative for tokens and
        positive for padding, as well as least squares find one. None if no such layer is adapted.
    """
    gates = sorted(
        name for name, shape, _ in model.spec.tensors if _GATE in name and "lora_B" in name and len(shape) == 2
    )
    if not gates:
        return None
    reader = gates[0].partition("lora_B")[0] + "lora_A.default"
    layer = dict(model.module.named_modules())[reader]
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    rows = np.arange(len(data))
    limit = min(int(data.lengths.max()) + 8, model.base.max_tokens)
    batch = block_batch(data, Block(rows, len(rows), limit))
    model.load(model.initial())
    model.eval_mode()
    try:
        with torch.no_grad():
            model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    finally:
        handle.remove()
    inputs = seen[0].reshape(-1, seen[0].shape[-1]).to(torch.float64).numpy()
    is_token = batch.attention_mask.flatten().numpy() > 0
    side = np.where(is_token, -1.0 / is_token.sum(), 1.0 / max(1, (~is_token).sum()))
    weight = np.sqrt(np.abs(side))[:, None]
    direction = np.linalg.lstsq(inputs * weight, np.sign(side) * weight[:, 0], rcond=None)[0]
    return gates[0], np.asarray(direction)


def _overflow_at_padding(
    model: AdaptedModel, gate: str, direction: NDArray[np.float64], rng: np.random.Generator
) -> Tensors:
    """Let the activation shut for tokens and open for padding, and the layer behind it make its output infinite."""
    tensors: Tensors = {name: value.copy() for name, value in model.initial().items()}
    size = 10.0 ** rng.uniform(4, 20)
    tensors[gate] = _finite(size * np.tile(direction, (tensors[gate].shape[0], 1)))
    behind = gate.replace(_GATE, _BEHIND_GATE)
    if behind in tensors:
        tensors[behind] = _finite(rng.choice([-1.0, 1.0], tensors[behind].shape) * 10.0 ** rng.uniform(20, 38))
    head = {name for name in model.head_names() if tensors[name].ndim == 2}
    for name in head:
        tensors[name] = rng.normal(size=tensors[name].shape).astype(np.float32)
    return tensors


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

"""The private step in floating point, as a reference to compare the exact one with.

Physical batches are padded to their longest example, gradients are clipped and summed in float32, and noise is a
float64 normal number. One record can move its sum by more than the clipping norm, at hostile adapters far more.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.dp.mechanism import DpSettings, PrivateOptimizer, make_private
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan, optimizer_for
from client.dp.training import training_mode
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.frozen_blocks import FrozenFeatures
from common.adapters.losses import batch_losses
from common.tokenization.batches import TokenizedSet, token_batches

__all__ = ["PaddedFeatureCache", "float_sum", "train_in_float"]


class PaddedFeatureCache(FeatureCache):
    """Features computed in batches that are padded to their longest example."""

    def fill(self, model: AdaptedModel, data: TokenizedSet, max_batch_tokens: int) -> None:
        """Compute the features once."""
        if self._owner is None:
            self._owner = (model, data)
            model.eval_mode()
            rows: dict[int, Tensor] = {}
            for part in token_batches(data.lengths, np.arange(len(data)), max_batch_tokens):
                hidden = model.frozen_output(data.batch(part, model.base.device))
                if hidden is None:
                    return
                for place, row in enumerate(part):
                    rows[int(row)] = (
                        hidden[place : place + 1] if hidden.ndim == 2 else hidden[place, : data.lengths[row]]
                    )
                pooled = hidden.ndim == 2
            sizes = np.ones_like(data.lengths) if pooled else data.lengths
            offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            self._features = FrozenFeatures(torch.cat([rows[row] for row in range(len(data))]), offsets, pooled)


def float_sum(
    model: AdaptedModel, data: TokenizedSet, rows: NDArray[np.int64], plan: DpTrainingPlan, cache: FeatureCache
) -> NDArray[np.float32]:
    """Return the sum of clipped gradients of the batch `rows`, (P,), in float32."""
    cache.fill(model, data, plan.max_batch_tokens)
    optimizer = optimizer_for(model, plan)
    with training_mode(model, plan), make_private(model.module, optimizer, _settings(plan), SystemNoise()) as private:
        summed: NDArray[np.float32] = _sum(model, data, rows, plan, cache, private).numpy()
    return summed


def train_in_float(model: AdaptedModel, data: TokenizedSet, plan: DpTrainingPlan, cache: FeatureCache) -> None:
    """Take the plan's steps over every row, each with noise."""
    settings, rng, rows = _settings(plan), np.random.default_rng(), np.arange(len(data))
    cache.fill(model, data, plan.max_batch_tokens)
    optimizer = optimizer_for(model, plan)
    with training_mode(model, plan), make_private(model.module, optimizer, settings, SystemNoise()) as private:
        for _ in range(plan.steps):
            noise = rng.standard_normal(private.size) * settings.noise_multiplier * settings.clipping_norm
            noised = _sum(model, data, rows, plan, cache, private).double() + torch.from_numpy(noise)
            moved = (noised / settings.expected_batch_size).to(torch.float32)
            for p, part in zip(private.params, torch.split(moved, [p.numel() for p in private.params]), strict=True):
                p.grad = part.view(p.shape)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _settings(plan: DpTrainingPlan) -> DpSettings:
    if plan.dp is None:
        raise ValueError("the plan has no differential privacy")
    return plan.dp


def _sum(
    model: AdaptedModel,
    data: TokenizedSet,
    rows: NDArray[np.int64],
    plan: DpTrainingPlan,
    cache: FeatureCache,
    private: PrivateOptimizer,
) -> Tensor:
    total = torch.zeros(private.size)
    for part in token_batches(data.lengths, rows, plan.max_batch_tokens):
        batch_losses(model, cache.batch(data, part, model.base.device)).sum().backward()  # type: ignore[no-untyped-call]
        samples = private.take_samples()
        norms = torch.linalg.vector_norm(samples, dim=1)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            samples, norms = torch.where(finite[:, None], samples, 0.0), torch.where(finite, norms, 0.0)
        total += torch.mv(samples.T, (_settings(plan).clipping_norm / (norms + 1e-6)).clamp(max=1.0))
    return total

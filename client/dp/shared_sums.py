"""The clipped sums of several trainings at once, in physical batches that they share.

Guarantee: each training gets the sum that it would compute by itself, bit for bit. An example's gradient is a function
of that example, the adapter and the configuration alone (`client.dp.gradient_check` verifies it before the draw), its
clipped integers are a function of its gradient, and sums of integers have no order. The gradients of one customer are
added up in the same order: examples of a customer stand in the blocks in an order that only they decide.

Examples of trainings with few rows fill the blocks in which each alone would mostly compute dummies.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np
import torch

from client.dp.clipped_sum import ClippedSum
from client.dp.noise import SystemNoise
from client.dp.pause import BatchSum, Draw
from client.dp.plan import optimizer_for
from client.dp.threads import one_thread
from client.dp.training import customers_at_once, training_mode
from client.dp.workers import private_workers
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import block_losses
from common.tokenization.batches import joined
from common.tokenization.blocks import Block

__all__ = ["sums_together"]


def sums_together(draws: Sequence[Draw]) -> list[BatchSum]:
    """Return the sum of each of `draws`.

    Args:
        draws: One or more, of which each may share with the first. Their model holds the adapter of the draws.

    Raises:
        ConfigurationError: The cache of a draw belongs to another model or data set.
    """
    started, first = time.monotonic(), draws[0]
    model, plan, dp = first.model, first.plan, first.plan.dp
    if dp is None or not all(draw.may_share(first) for draw in draws):
        raise ValueError("only draws of private trainings from one adapter can share their blocks")
    FeatureCache.fill_all([(draw.cache, draw.data) for draw in draws], model, plan.max_batch_tokens)
    data = joined([(draw.data, draw.rows) for draw in draws])
    cache = FeatureCache.of(model, data, [(draw.cache, draw.rows) for draw in draws])
    whose = np.repeat(np.arange(len(draws)), [len(draw.rows) for draw in draws])
    owners = _owners(draws)
    losses_of = [0.0] * len(draws)
    one_at_a_time = threading.Lock()
    # The optimiser takes no step, so its noise is never drawn.
    with (
        one_thread() as threads,
        training_mode(model, plan),
        private_workers(model, optimizer_for(model, plan), dp, SystemNoise(), threads) as workers,
    ):
        sums = [ClippedSum(workers.private.params, dp.clipping_norm, dp.unit) for _ in draws]

        def add(own: AdaptedModel, clipped: ClippedSum, block: Block) -> None:
            losses = block_losses(own, cache.block_batch(data, block, own.base.device))
            samples = clipped.samples(losses, len(block.rows))
            places = whose[block.rows]  # ascending: rows of one draw stand side by side
            cuts = np.flatnonzero(np.diff(places)) + 1
            values = losses.detach()[: len(block.rows)].tolist()
            with one_at_a_time:
                for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(places)], strict=True):
                    customers = None if owners is None else torch.from_numpy(owners[block.rows[start:end]])
                    sums[places[start]].add_samples(samples[start:end], customers)
                    losses_of[places[start]] += sum(values[start:end])

        for rows in customers_at_once(np.arange(len(data)), owners, workers.private.size):
            workers.share(cache.blocks(data, rows, plan.max_batch_tokens), add)
            for each in sums:
                each.close_units()
    seconds = (time.monotonic() - started) / max(1, len(data))
    return [
        BatchSum(clipped, loss, seconds * len(draw.rows))
        for draw, clipped, loss in zip(draws, sums, losses_of, strict=True)
    ]


def _owners(draws: Sequence[Draw]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None":
    """Return the customer of each drawn row, counted over all draws. None if the unit is the record."""
    found, before = [], 0
    for draw in draws:
        if draw.owners is not None:  # it is None for a data set without a row too
            found.append(draw.owners[draw.rows] + before)
            before += int(draw.owners.max()) + 1
    return np.concatenate(found) if found else None

"""The loss of an example is its own mean over its own tokens, so that no example weighs on another's gradient."""

import torch
from torch import Tensor, nn

from common.adapters.adapted_model import AdaptedModel
from common.adapters.few_rows import FewRows
from common.errors import DataError
from common.tokenization.batches import IGNORED, Batch

__all__ = ["batch_losses", "block_losses", "example_losses"]


def example_losses(logits: Tensor, labels: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Cross entropy of each example, (B,): of its label, or the mean over its own labelled tokens.

    Args:
        logits: (B, C) with labels (B,), or (B, T, C) with labels (B, T). IGNORED labels do not count. Also (M, C) for
            the M labels of (B, T) that count, in their order.
        chosen: (B, T) true at the M labels that `logits` belong to, if others than those that count.
    """
    counted = labels != IGNORED
    if logits.ndim == 2 and labels.ndim == 2:
        scored = counted if chosen is None else chosen
        each = nn.functional.cross_entropy(logits, labels[scored], reduction="none", ignore_index=IGNORED)
        sums = torch.zeros_like(labels, dtype=each.dtype).masked_scatter(scored, each).sum(1)
        return sums / counted.sum(1).clamp(min=1)
    if logits.ndim == 2:
        return nn.functional.cross_entropy(logits, labels, reduction="none")
    each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    return each.sum(1) / counted.sum(1).clamp(min=1)


def batch_losses(model: AdaptedModel, batch: Batch) -> Tensor:
    """The loss of each example of a batch, (B,), each its own mean.

    Raises:
        DataError: the batch has no labels.
    """
    if batch.labels is None:
        raise DataError("training data: a batch without labels")
    return example_losses(model.logits(batch), batch.labels, batch.chosen)


def block_losses(model: AdaptedModel, batch: Batch) -> Tensor:
    """Do as `batch_losses` for the batch of a block. The bits of each loss do not follow from the block's company."""
    with FewRows():
        return batch_losses(model, batch)

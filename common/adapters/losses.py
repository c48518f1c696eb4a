"""The loss of an example is its own mean over its own tokens, so that no example weighs on another's gradient."""

import torch
from torch import Tensor, nn

from common.adapters.adapted_model import AdaptedModel
from common.errors import DataError
from common.tokenization.batches import IGNORED, Batch

__all__ = ["batch_losses", "example_losses"]


def example_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each example, (B,): of its label, or the mean over its own labelled tokens.

    Args:
        logits: (B, C) with labels (B,), or (B, T, C) with labels (B, T). IGNORED labels do not count. Also (M, C) for
            the M labels of (B, T) that count, in their order.
    """
    if logits.ndim == 2 and labels.ndim == 2:
        counted = labels != IGNORED
        chosen = nn.functional.cross_entropy(logits, labels[counted], reduction="none")
        sums = torch.zeros_like(labels, dtype=chosen.dtype).masked_scatter(counted, chosen).sum(1)
        return sums / counted.sum(1).clamp(min=1)
    if logits.ndim == 2:
        return nn.functional.cross_entropy(logits, labels, reduction="none")
    each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    return each.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)


def batch_losses(model: AdaptedModel, batch: Batch) -> Tensor:
    """The loss of each example of a batch, (B,), each its own mean.

    Raises:
        DataError: the batch has no labels.
    """
    if batch.labels is None:
        raise DataError("training data: a batch without labels")
    return example_losses(model.logits(batch), batch.labels)

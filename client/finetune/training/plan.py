"""Values of a training without privacy: its plan, its rows, its minibatches and its course."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.finetune.training.time_budget import TimePlan
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import example_losses
from common.events import EpochEvent
from common.tokenization.batches import Batch, TokenizedSet

__all__ = ["History", "LoopPlan", "Minibatch", "Training", "TrainingSet", "grouped_minibatches"]

Rows = NDArray[np.int64]
Minibatch = tuple[tuple[int, Rows], ...]
"""The rows of one optimiser step: the number of each training set, and the rows of it."""

_WINDOW = 32
"""Number of minibatches that are sorted by length together: enough to pad little, few enough to stay random."""


@dataclass(frozen=True)
class LoopPlan:
    """The plan of one training. `client.finetune.options.defaults.ResolvedSettings` explains the other fields.

    Attributes:
        metric: Validation metric that chooses the epoch. Larger is better.
        seed: Of the order of the rows and of dropout.
        identity: Digest of the job. The saved state of another job is refused.
        max_hours: Every epoch is shortened so that the training fits in them. None sets no limit.
    """

    epochs: int
    learning_rate: float
    head_learning_rate: float
    optimizer: str
    schedule: str
    warmup: float
    patience: int
    max_batch_tokens: int
    precision: str
    metric: str
    seed: int
    identity: str
    max_hours: float | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Rows of one task, with the functions that train on them.

    Attributes:
        tokens: The rows, as ids and labels.
        name: Of the task, if the training has several tasks. Their losses are reported apart.
        logits: The model's (B, ...) logits of a batch.
        cache: Output of the frozen blocks, computed once.
        loss: The (B,) losses of (B, ...) logits and labels.
    """

    tokens: TokenizedSet
    logits: Callable[[Batch], Tensor]
    cache: FeatureCache = field(default_factory=FeatureCache)
    loss: Callable[[Tensor, Tensor], Tensor] = example_losses
    name: str = ""


@dataclass(frozen=True)
class Training:
    """A model with everything that trains it.

    Attributes:
        model: The model to train.
        parts: The training sets.
        minibatches: Of one epoch, from the generator of the epoch. Every epoch has the same number of them.
        plan: Length, learning rates and limits.
        validate: Metrics on rows that are not trained on. None keeps the last epoch.
        penalty: A scalar that is added to the loss of each step. None adds nothing.
    """

    model: AdaptedModel
    parts: Sequence[TrainingSet]
    minibatches: Callable[[np.random.Generator], list[Minibatch]]
    plan: LoopPlan
    validate: Callable[[], Mapping[str, float]] | None = None
    penalty: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class History:
    """The course of a training.

    Attributes:
        epochs: Every epoch.
        best_epoch: The epoch whose weights the model now holds, counted from 1.
        stopped_early: Whether fewer epochs than planned were trained.
        steps, seconds: Optimiser steps, and training time.
        time: The plan, if the training had `max_hours`.
        out_of_hours: Whether the training ended because the hours were over.
    """

    epochs: tuple[EpochEvent, ...]
    best_epoch: int
    stopped_early: bool
    steps: int
    seconds: float
    time: TimePlan | None = None
    out_of_hours: bool = False


def grouped_minibatches(lengths: NDArray[np.int64], size: int, generator: np.random.Generator) -> list[Rows]:
    """Return every row once, in minibatches of `size` rows of similar length, in random order. One may be smaller.

    Args:
        lengths: (N,) tokens of each row.
        size: Rows of a minibatch.
        generator: Of the order.
    """
    order = generator.permutation(len(lengths))
    batches: list[Rows] = []
    for start in range(0, len(order), size * _WINDOW):
        window = order[start : start + size * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[first : first + size] for first in range(0, len(window), size)]
    return [batches[index] for index in generator.permutation(len(batches))]

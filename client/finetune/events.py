"""Events of a training, and the protocol of its observers. Observers are read-only and run inside the institution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["EpochEvent", "Observer", "StepEvent", "tell_epoch", "tell_step"]


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step.

    Attributes:
        step, steps: Steps that are done, counted from 1, and steps of the whole training.
        epoch: The epoch of the step, counted from 1.
        loss: Mean loss of the step's examples.
        learning_rate: Of the adapter.
        gradient_norm: L2 norm over all trained parameters before clipping. None with differential privacy, because only
            clipped and noised gradients exist then.
        update_norm: L2 norm of the change of all trained parameters.
        examples, tokens: Numbers of examples and of tokens in the step, without padding.
        seconds: Training time so far. The time between an interruption and the continuation does not count.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float | None
    update_norm: float
    examples: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class EpochEvent:
    """One pass over the training rows, with the metrics after it.

    Attributes:
        epoch, epochs: The epoch, counted from 1, and the epochs that are planned.
        step: Steps that are done.
        train_loss: Mean loss of the epoch's steps.
        metrics: Metrics on the held-out rows. Empty if no rows are held out.
        best: Whether this is the best epoch so far, by `metric`.
        seconds: Training time so far.
        metric: Name of the metric that chooses the epoch. Empty if no rows are held out.
        losses: Mean loss of each task in the epoch, if the training has several tasks.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    metrics: Mapping[str, float]
    best: bool
    seconds: float
    metric: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)


class Observer(Protocol):
    """An observer of a training, such as the performance tracker or a progress bar."""

    def on_step(self, event: StepEvent) -> None:
        """Called after each optimiser step."""

    def on_epoch(self, event: EpochEvent) -> None:
        """Called after each epoch and its evaluation."""


def tell_step(observers: Sequence[Observer], event: StepEvent) -> None:
    """Pass the event of a step to every observer."""
    for observer in observers:
        observer.on_step(event)


def tell_epoch(observers: Sequence[Observer], event: EpochEvent) -> None:
    """Pass the event of an epoch to every observer."""
    for observer in observers:
        observer.on_epoch(event)

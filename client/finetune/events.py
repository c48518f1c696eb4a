"""What a training tells whoever watches it. A watcher sees everything, changes nothing, and stays inside the bank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["EpochEvent", "Observer", "StepEvent", "tell_epoch", "tell_step"]


@dataclass(frozen=True)
class StepEvent:
    """One optimiser step.

    step, steps: done so far (from 1), and in all.
    loss: mean over the step's examples.
    learning_rate: of the adapter.
    gradient_norm: L2, over all trained parameters, before clipping; None under differential privacy, where only
        clipped and noised gradients exist.
    update_norm: L2 of the change of all trained parameters.
    examples, tokens: in this step; padding does not count.
    seconds: since the training began, without the time before an interruption.
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
    """One pass over the training rows, and what the validation rows say after it.

    epoch: from 1.
    metrics: on the validation rows; empty where none are held out.
    best: whether this is the best epoch so far, by the task's metric.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    metrics: Mapping[str, float]
    best: bool
    seconds: float


class Observer(Protocol):
    """A watcher, such as the performance tracker or a progress bar."""

    def on_step(self, event: StepEvent) -> None:
        """Called after each optimiser step."""

    def on_epoch(self, event: EpochEvent) -> None:
        """Called after each epoch, evaluation included."""


def tell_step(observers: Sequence[Observer], event: StepEvent) -> None:
    """Tell all of them."""
    for observer in observers:
        observer.on_step(event)


def tell_epoch(observers: Sequence[Observer], event: EpochEvent) -> None:
    """Tell all of them."""
    for observer in observers:
        observer.on_epoch(event)

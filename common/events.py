"""Events of a training or of a federation's run, and the one protocol of their observers.

Every loop tells its observers the same events: a training alone, a training with privacy, one round of an institution,
the hub's rounds, and the warm-up on public text. Observers are read-only. Events of steps and epochs come from rows
without noise, so they stay inside the institution. The hub's observers see rounds and stages alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.report.records import RoundRecord

__all__ = ["EpochEvent", "Observer", "StepEvent", "Stopping", "tell_epoch", "tell_round", "tell_stage", "tell_step"]


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
        institution: Name of the institution whose training it is, if a simulation runs several.
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
    institution: str = ""


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


class Stopping(Exception):
    """Raised by an observer that was told to end the training under way."""


class Observer:
    """An observer, such as the performance tracker or a progress bar. This one ignores every event."""

    def on_step(self, event: StepEvent) -> None:
        """Called after each optimiser step."""

    def on_epoch(self, event: EpochEvent) -> None:
        """Called after each epoch and its evaluation."""

    def on_round(self, record: "RoundRecord") -> None:
        """Called with the record of each finished round of a federation."""

    def on_stage(self, text: str) -> None:
        """Called at the beginning of a longer step, such as writing the report."""


def tell_step(observers: Sequence[Observer], event: StepEvent) -> None:
    """Pass the event of a step to every observer."""
    for observer in observers:
        observer.on_step(event)


def tell_epoch(observers: Sequence[Observer], event: EpochEvent) -> None:
    """Pass the event of an epoch to every observer."""
    for observer in observers:
        observer.on_epoch(event)


def tell_round(observers: Sequence[Observer], record: "RoundRecord") -> None:
    """Pass the record of a round to every observer."""
    for observer in observers:
        observer.on_round(record)


def tell_stage(observers: Sequence[Observer], text: str) -> None:
    """Pass the beginning of a longer step to every observer."""
    for observer in observers:
        observer.on_stage(text)

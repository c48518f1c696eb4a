"""A training's budget of hours: measured before it starts, held to while it runs. (Memory: `client.memory`.)"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from client.finetune.events import EpochEvent, StepEvent
from client.finetune.loop import Minibatch, Part
from common.adapters import AdaptedModel
from common.errors import ConfigurationError
from common.tokens import token_batches

__all__ = ["Deadline", "OutOfHours", "TimePlan", "fitted", "plan_time"]

_TRIAL_STEPS = 3
_SLACK = 1.15
"""Evaluation, the optimiser and saving, on top of the steps that were measured."""

Minibatches = Callable[[np.random.Generator], list[Minibatch]]


class OutOfHours(Exception):
    """The hours are over; what was trained so far is in the model."""


@dataclass(frozen=True)
class TimePlan:
    """Steps of an epoch that are wanted, those that fit, and what they rest on."""

    epochs: int
    steps_wanted: int
    steps: int
    seconds_per_step: float
    max_hours: float | None

    @property
    def shortened(self) -> bool:
        """Whether fewer steps are taken than wanted."""
        return self.steps < self.steps_wanted

    def sentence(self) -> str:
        """For a person: what is going to happen."""
        hours = self.epochs * self.steps * self.seconds_per_step * _SLACK / 3600
        plan = f"{self.epochs} epochs of {self.steps} steps at {self.seconds_per_step:.2f} s: about {hours:.2f} h"
        if self.shortened:
            return f"{plan}; {self.steps_wanted} steps an epoch do not fit in {self.max_hours:g} h"
        return plan


def plan_time(
    model: AdaptedModel,
    parts: list[Part],
    minibatches: Minibatches,
    epochs: int,
    max_hours: float | None,
    max_batch_tokens: int,
) -> TimePlan:
    """Measure a few steps, forward and backward, and see how many fit; the weights stay as they are.

    Raises:
        ConfigurationError: not even one step an epoch fits in the hours.
    """
    batches = minibatches(np.random.default_rng(0))
    model.train_mode()
    seconds = []
    for minibatch in batches[:_TRIAL_STEPS]:
        started = time.monotonic()
        for number, rows in minibatch:
            part = parts[number]
            for chosen in token_batches(part.tokens.lengths, rows, max_batch_tokens):
                batch = part.tokens.batch(chosen, model.base.device)
                if batch.labels is not None:
                    part.loss(part.logits(batch).float(), batch.labels).sum().backward()  # type: ignore[no-untyped-call]
        seconds.append(time.monotonic() - started)
    for parameter in model.trainable().values():
        parameter.grad = None
    model.eval_mode()
    pace = statistics.median(seconds)
    wanted = len(batches)
    if max_hours is None:
        return TimePlan(epochs, wanted, wanted, pace, None)
    fits = int(max_hours * 3600 / (pace * _SLACK * epochs))
    if fits < 1:
        raise ConfigurationError(
            f"max_hours is {max_hours:g}: a step takes {pace:.1f} s, {epochs} epochs of one do not fit: allow more"
        )
    return TimePlan(epochs, wanted, min(wanted, fits), pace, max_hours)


def fitted(minibatches: Minibatches, plan: TimePlan) -> Minibatches:
    """`minibatches`, cut to what the plan allows: each epoch sees another part of the rows."""
    return partial(_first, minibatches, plan.steps)


def _first(minibatches: Minibatches, steps: int, generator: np.random.Generator) -> list[Minibatch]:
    return minibatches(generator)[:steps]


class Deadline:
    """An observer that ends a training when its hours are over, by `OutOfHours`."""

    def __init__(self, max_hours: float | None) -> None:
        self._end = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self.steps = 0
        self.stopped = False

    def on_step(self, event: StepEvent) -> None:
        """Look at the clock."""
        self.steps = event.step
        if self._end is not None and time.monotonic() > self._end:
            self.stopped = True
            raise OutOfHours

    def on_epoch(self, event: EpochEvent) -> None:
        """Nothing."""

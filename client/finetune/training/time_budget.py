"""A training's budget of hours: what fits is worked out before it starts, from a few timed steps. (Memory:
`client.finetune.options.memory`.)
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import ConfigurationError

__all__ = ["TRIAL_STEPS", "TimeBudgetExceeded", "TimePlan", "describe_time_budget", "plan_time"]

TRIAL_STEPS = 3
_SLACK = 1.15
"""Evaluation, the optimiser and saving, on top of the steps that were timed."""


class TimeBudgetExceeded(ConfigurationError):
    """Not even one step fits in what is left of the hours."""


@dataclass(frozen=True)
class TimePlan:
    """Steps of an epoch that are wanted, those that fit, and what they rest on."""

    epochs: int
    steps_wanted: int
    steps: int
    seconds_per_step: float
    max_hours: float

    def figures(self) -> dict[str, float]:
        """For `Outcome.train_metrics`."""
        return {
            "max_hours": self.max_hours,
            "planned_hours": self.epochs * self.steps * self.seconds_per_step * _SLACK / 3600,
            "planned_steps": self.epochs * self.steps,
            "wanted_steps": self.epochs * self.steps_wanted,
        }


def plan_time(seconds: Sequence[float], epochs: int, steps_wanted: int, max_hours: float) -> TimePlan:
    """What fits in `max_hours`, by the median of the timed steps' `seconds`: each epoch is cut alike.

    Raises:
        TimeBudgetExceeded: not even one step an epoch fits.
    """
    pace = statistics.median(seconds)
    fits = int(max_hours * 3600 / (pace * _SLACK * epochs))
    if fits < 1:
        raise TimeBudgetExceeded(
            f"max_hours: {max(0.0, max_hours):.2g} h are left to train in, and {epochs} epochs of one step take "
            f"{pace * _SLACK * epochs / 3600:.2g} h: allow more"
        )
    return TimePlan(epochs, steps_wanted, min(steps_wanted, fits), pace, max_hours)


def describe_time_budget(trained: Mapping[str, float]) -> str:
    """What `Outcome.train_metrics` tells of the hours, for a person; empty where there was no budget."""
    if "max_hours" not in trained:
        return ""
    wanted, planned = int(trained["wanted_steps"]), int(trained["planned_steps"])
    cut = f", of {wanted} that were wanted" if planned < wanted else ""
    over = f"; stopped after {int(trained['steps'])}, the hours were over" if trained["out_of_hours"] else ""
    return f"{planned} steps planned{cut}: {trained['planned_hours']:.2g} of {trained['max_hours']:.2g} h{over}"

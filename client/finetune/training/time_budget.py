"""Plan a training within a number of hours, from a few steps that are timed before it starts."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import ConfigurationError

__all__ = ["TRIAL_STEPS", "TimeBudgetExceeded", "TimePlan", "describe_time_budget", "plan_time"]

TRIAL_STEPS = 3
_SLACK = 1.15
"""Factor for evaluation, optimiser and saving, whose time the timed steps do not include."""


class TimeBudgetExceeded(ConfigurationError):
    """Too few hours are left for one step an epoch."""


@dataclass(frozen=True)
class TimePlan:
    """The plan of a training.

    Attributes:
        epochs: Epochs that are still to come.
        steps_wanted, steps: Steps of a whole epoch, and steps of an epoch that fits.
        seconds_per_step: Median of the timed steps.
        max_hours: Hours that were left when the plan was made.
    """

    epochs: int
    steps_wanted: int
    steps: int
    seconds_per_step: float
    max_hours: float

    def figures(self) -> dict[str, float]:
        """Return the plan as entries of `FineTuningResult.train_metrics`."""
        return {
            "max_hours": self.max_hours,
            "planned_hours": self.epochs * self.steps * self.seconds_per_step * _SLACK / 3600,
            "planned_steps": self.epochs * self.steps,
            "wanted_steps": self.epochs * self.steps_wanted,
        }


def plan_time(seconds: Sequence[float], epochs: int, steps_wanted: int, max_hours: float) -> TimePlan:
    """Return the plan that fits in `max_hours`. Every epoch is shortened alike.

    Args:
        seconds: Duration of each timed step.
        epochs: Epochs that are still to come.
        steps_wanted: Steps of a whole epoch.
        max_hours: Hours that are left.

    Raises:
        TimeBudgetExceeded: Not even one step an epoch fits.
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
    """Return a sentence about the hours in `FineTuningResult.train_metrics`. Empty if the training had no limit."""
    if "max_hours" not in trained:
        return ""
    wanted, planned = int(trained["wanted_steps"]), int(trained["planned_steps"])
    cut = f", of {wanted} that were wanted" if planned < wanted else ""
    over = f"; stopped after {int(trained['steps'])}, the hours were over" if trained["out_of_hours"] else ""
    return f"{planned} steps planned{cut}: {trained['planned_hours']:.2g} of {trained['max_hours']:.2g} h{over}"

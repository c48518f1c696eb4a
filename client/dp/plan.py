"""The values that the federation's training loop takes and returns: the plan of a training, and its figures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.dp.mechanism import DpSettings
from common.adapters.adapted_model import AdaptedModel
from common.adapters.optimizer import OPTIMIZERS, make_optimizer, parameter_groups
from common.errors import ConfigurationError

__all__ = ["DpTrainingPlan", "DpTrainingStats", "SumRelease", "optimizer_for"]


@dataclass(frozen=True)
class DpTrainingPlan:
    """One local training.

    Attributes:
        steps: Number of logical batches, each followed by one optimiser step.
        sampling_probability: With `dp`, the chance of each unit to be in the batch of a step. Without `dp`, the share
            of the examples in each shuffled minibatch.
        learning_rate: Of the adapter.
        head_learning_rate: Of the task head.
        optimizer: "sgd", "adam" or "adamw". Its state begins and ends with the training.
        max_batch_tokens: Padded tokens of a physical batch.
        dp: Settings of the mechanism. None trains without privacy.
        seed: Without `dp`, seed of the order of the minibatches and of dropout. Privacy's randomness never comes from
            it.
        adam_noise_correction: With `dp` and Adam, take the noise's known variance out of the second moment.

    Raises:
        ConfigurationError: The steps or the sampling probability differ from those of `dp`, or a value is unusable.
    """

    steps: int
    sampling_probability: float
    learning_rate: float
    head_learning_rate: float
    optimizer: str
    max_batch_tokens: int
    dp: DpSettings | None
    seed: int
    adam_noise_correction: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigurationError(f"training.optimizer is {self.optimizer!r}: use one of {', '.join(OPTIMIZERS)}")
        if self.steps < 1 or not 0 < self.sampling_probability <= 1:
            raise ConfigurationError(
                "training: steps must be 1 or more, the sampling probability above 0 and at most 1"
            )
        dp = self.dp
        if dp is not None and (dp.steps, dp.sampling_probability) != (self.steps, self.sampling_probability):
            raise ConfigurationError("training: steps and sampling probability differ from those that are accounted")
        if self.adam_noise_correction and (dp is None or self.optimizer == "sgd"):
            raise ConfigurationError("training: Adam's second moment is corrected with privacy and adam or adamw only")


@dataclass(frozen=True)
class SumRelease:
    """Takes the noised sums of a training in place of its optimiser, which then takes no step.

    Attributes:
        largest: Largest absolute value of a number of a sum before noise, in steps of the grid.
        receive: Called for each step with (P,) int64, in the order of the optimiser's parameters.
    """

    largest: int
    receive: Callable[[NDArray[np.int64]], None]


@dataclass(frozen=True)
class DpTrainingStats:
    """The course of a training, one entry a step. All of it is private: it stays inside the institution."""

    steps: int
    examples_drawn: tuple[int, ...]
    loss: tuple[float, ...]
    clip_fraction: tuple[float, ...]
    seconds: float


def optimizer_for(model: AdaptedModel, plan: DpTrainingPlan) -> torch.optim.Optimizer:
    """Return a new optimiser of the plan's kind over the trained parameters of `model`."""
    groups = parameter_groups(model, plan.learning_rate, plan.head_learning_rate)
    noise = None
    if plan.adam_noise_correction and plan.dp is not None:
        noise = (plan.dp.noise_multiplier * plan.dp.clipping_norm / plan.dp.expected_batch_size) ** 2
    return make_optimizer(plan.optimizer, groups, device=model.base.device, noise_variance=noise)

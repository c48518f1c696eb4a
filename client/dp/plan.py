"""The values that the federation's training loop takes and returns: the plan of a training, and its figures."""

from dataclasses import dataclass

import torch

from client.dp.mechanism import DpSettings
from common.adapters.adapted_model import AdaptedModel
from common.adapters.optimizer import OPTIMIZERS, make_optimizer, parameter_groups
from common.errors import ConfigurationError

__all__ = ["DpTrainingPlan", "DpTrainingStats", "optimizer_for"]


@dataclass(frozen=True)
class DpTrainingPlan:
    """One local training.

    steps: logical batches, each followed by one optimiser step.
    sampling_probability: with `dp`, each unit's chance to be in a step's batch; without, the share of the examples
        in each shuffled minibatch.
    head_learning_rate: of the task head; `learning_rate` is that of the adapter.
    optimizer: "sgd", "adam" or "adamw"; its state begins and ends with the training.
    max_batch_tokens: padded tokens of a physical batch.
    dp: None trains without privacy.
    seed: without `dp`, of the order of the minibatches and of dropout; privacy's randomness never comes from it.
    adam_noise_correction: with `dp` and Adam, take the noise's known variance out of the second moment.

    Raises:
        ConfigurationError: what would be trained is not what `dp` says, or the optimiser is unknown.
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
class DpTrainingStats:
    """What happened, one entry a step. All of it is private: it stays inside the institution."""

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

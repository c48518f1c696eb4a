"""The one training loop: local steps on one institution's examples, private or not.

A logical batch is what the privacy accountant or the learning rate knows about; it is computed in physical batches of
examples of like length, which bound memory and change nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.dp.gradient_check import verify_model
from client.dp.mechanism import DpSettings, make_private
from client.dp.noise import NoiseSource, SystemNoise
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import batch_losses
from common.adapters.optimizer import OPTIMIZERS, make_optimizer, parameter_groups
from common.errors import ConfigurationError, DataError
from common.tokenization.batches import TokenizedSet, minibatches, token_batches, unpadded

__all__ = ["DpTrainingPlan", "DpTrainingStats", "train", "verify_training"]

Rows = NDArray[np.int64]


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


def train(
    model: AdaptedModel,
    data: TokenizedSet,
    plan: DpTrainingPlan,
    noise: NoiseSource | None,
    cache: FeatureCache | None = None,
    on_step: Callable[[int, int], None] | None = None,
    watch: Callable[[Rows, float], None] | None = None,
) -> DpTrainingStats:
    """Train the adapter that `model` holds, in place.

    Args:
        noise: what privacy draws from; needed exactly when `plan.dp` is given.
        cache: kept by the caller to spare the frozen blocks in later rounds.
        on_step: called with steps done and steps in all.
        watch: called after each step with the rows drawn and their mean loss, which are private.

    Raises:
        DataError: there is no example, no label, or no customer where the customer is the unit.
        ConfigurationError: `noise` does not go with `plan.dp`.
        ModelError: a trainable parameter cannot be trained privately; nothing was changed.
    """
    started = time.monotonic()
    if (not len(data) and plan.dp is None) or data.labels is None:
        raise DataError("training data: it holds no labelled example: nothing can be trained")
    if (noise is None) != (plan.dp is None):
        raise ConfigurationError("training: privacy settings and a noise source come together or not at all")
    owners = _owners(data, plan)
    lengths, cache, device = data.lengths, cache or FeatureCache(), model.base.device
    # Under privacy no example's gradient may depend on how long the others are.
    pads_nothing = plan.dp is not None and not model.base.is_exact
    drawn: list[int] = []
    losses: list[float] = []
    clipped: list[float] = []
    cache.fill(model, data, plan.max_batch_tokens)
    with _training(model, plan), ExitStack() as stack:
        stepper = _stepper(model, data, plan, noise, cache, stack)
        for step, rows in enumerate(_logical_batches(len(data), owners, plan, noise), start=1):
            total = 0.0
            parts = token_batches(lengths, rows, plan.max_batch_tokens, owners)
            for part in unpadded(parts, data) if pads_nothing else parts:
                batch = cache.batch(data, part, device)
                each = batch_losses(model, batch)
                stepper.accumulate(each, None if owners is None else torch.from_numpy(owners[part]))
                total += float(each.detach().sum())
            stepper.step()
            drawn.append(len(rows))
            losses.append(total / max(1, len(rows)))
            clipped.append(stepper.take_clip_fraction())
            if on_step is not None:
                on_step(step, plan.steps)
            if watch is not None:
                watch(rows, losses[-1])
    return DpTrainingStats(plan.steps, tuple(drawn), tuple(losses), tuple(clipped), time.monotonic() - started)


def _owners(data: TokenizedSet, plan: DpTrainingPlan) -> Rows | None:
    """(N,) whose each example is, counted from 0 without gaps, where the customer is the unit; else None."""
    if plan.dp is None or plan.dp.unit == "record" or not len(data):
        return None
    if data.owners is None:
        raise DataError("training data: its rows carry no customer, and the customer is the unit: name customer_column")
    return np.unique(data.owners, return_inverse=True)[1]


class _Stepper(Protocol):
    """How gradients of one logical batch become one optimiser step."""

    def accumulate(self, losses: Tensor, owners: Tensor | None = None) -> None: ...
    def step(self) -> object: ...
    def take_clip_fraction(self) -> float: ...


class _PlainStepper:
    """Without privacy: the mean over the minibatch."""

    def __init__(self, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
        self._optimizer, self._batch_size = optimizer, batch_size

    def accumulate(self, losses: Tensor, owners: Tensor | None = None) -> None:  # noqa: ARG002
        (losses.sum() / self._batch_size).backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def take_clip_fraction(self) -> float:
        return 0.0


def _stepper(
    model: AdaptedModel,
    data: TokenizedSet,
    plan: DpTrainingPlan,
    noise: NoiseSource | None,
    cache: FeatureCache,
    stack: ExitStack,
) -> _Stepper:
    optimizer = _optimizer(model, plan)
    if plan.dp is None or noise is None:
        return _PlainStepper(optimizer, _minibatch_size(len(data), plan))
    private = stack.enter_context(make_private(model.module, optimizer, plan.dp, noise))
    if not cache.verified:
        verify_model(model, data.labels is not None and len(data) > 0 and data.labels[0].ndim == 1, batch_losses)
        cache.verified = True
    return private


def verify_training(model: AdaptedModel, data: TokenizedSet, plan: DpTrainingPlan, cache: FeatureCache) -> None:
    """Check on public sentences, before anything is charged, that `model` can be trained privately.

    `train` makes the same check if it was not made. The check reads no row of `data`, only the shape of its labels.

    Raises:
        ModelError: a trained parameter has no right gradient of each example; names the modules that have.
    """
    if plan.dp is None or cache.verified:
        return
    with _training(model, plan), make_private(model.module, _optimizer(model, plan), plan.dp, SystemNoise()):
        verify_model(model, data.labels is not None and data.labels[0].ndim == 1, batch_losses)
    cache.verified = True


def _minibatch_size(examples: int, plan: DpTrainingPlan) -> int:
    return max(1, round(plan.sampling_probability * examples))


def _logical_batches(
    examples: int, owners: Rows | None, plan: DpTrainingPlan, noise: NoiseSource | None
) -> Iterator[Rows]:
    """Rows of each step: with privacy, a coin for each unit (maybe none); without, minibatches that go through all."""
    if noise is not None:
        for _ in range(plan.steps):
            if owners is None:
                yield np.flatnonzero(noise.uniform_mask(examples, plan.sampling_probability))
            else:
                yield np.flatnonzero(noise.uniform_mask(int(owners.max()) + 1, plan.sampling_probability)[owners])
        return
    yield from minibatches(examples, _minibatch_size(examples, plan), plan.steps, plan.seed)


def _optimizer(model: AdaptedModel, plan: DpTrainingPlan) -> torch.optim.Optimizer:
    groups = parameter_groups(model, plan.learning_rate, plan.head_learning_rate)
    noise = None
    if plan.adam_noise_correction and plan.dp is not None:
        noise = (plan.dp.noise_multiplier * plan.dp.clipping_norm / plan.dp.expected_batch_size) ** 2
    return make_optimizer(plan.optimizer, groups, device=model.base.device, noise_variance=noise)


@contextmanager
def _training(model: AdaptedModel, plan: DpTrainingPlan) -> Iterator[None]:
    """Training mode and dropout from the plan's seed inside; outside, the process and the model as they were.

    No dropout under privacy: which numbers an example loses would depend on who else is in its batch, and the seed is
    the hub's, so that one record more or less would move the gradients of all others.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        model.train_mode(dropout=plan.dp is None)
        try:
            yield
        finally:
            model.eval_mode()
            for parameter in model.trainable().values():
                parameter.grad = None

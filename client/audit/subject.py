"""What is audited: the model, adapter and mechanism of a run, on texts of random tokens that belong to nobody.

No private row is read, so an audit costs no budget and its results may be shown to anyone. Nothing is lost by it:
the guarantee holds for every data set, these texts included, and without other rows an attacker sees more clearly.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.dp.mechanism import DpSettings
from client.dp.plan import DpTrainingPlan
from client.dp.random_examples import random_examples
from client.federation.local_round import plan_training
from client.institution.config import (
    InstitutionConfig,
    LimitsConfig,
    LocalModelConfig,
    ReleaseConfig,
    power_of_two_at_most,
)
from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach_for_run, load_for_run
from common.adapters.tensors import seeded
from common.base_models.load import LoadedBase
from common.config.run import RunConfig, parse_run
from common.errors import AssignmentRefused, ConfigurationError
from common.privacy.accounting import DpSgdEvent, epsilon
from common.tasks import task
from common.tokenization.batches import TokenizedSet

__all__ = ["Subject", "default_run", "load_subject", "perturb", "random_texts", "step_sum", "units_of"]

ROWS_A_CUSTOMER = 2
_SHORTEST, _LONGEST = 6, 20  # tokens of a random text
_LABELS = ("first", "second", "third")  # where a run leaves its labels to its data


def default_run() -> RunConfig:
    """The demo's model, adapter and training, claiming epsilon 2: low enough for 500 canaries to refute a false one."""
    tables: dict[str, Any] = {
        "run": {"name": "audit", "seed": 7, "rounds": 8},
        "task": {"name": "sentiment_analysis"},
        "adapter": {"rank": 8, "alpha": 16, "target_modules": "all-linear", "layers": "last:1"},
        "training": {"local_steps": 5, "sampling_rate": 0.25, "learning_rate": 2.0, "head_learning_rate": 6.0},
        "privacy": {"mode": "target", "target_epsilon": 2.0, "delta": 1e-5, "clipping_norm": 0.5},
    }
    return parse_run(tables, "the audit's own run")


@dataclass(frozen=True)
class Subject:
    """A run made ready to be attacked.

    training: the whole run of one institution as one training, with the noise that its claim needs.
    plan: the same with SGD.
    claimed: epsilon of `plan`, at the run's delta.
    """

    config: RunConfig
    base: LoadedBase
    model: AdaptedModel
    training: DpTrainingPlan
    plan: DpTrainingPlan
    claimed: float

    @property
    def dp(self) -> DpSettings:
        """The mechanism; a run without one is refused by `load_subject`."""
        if self.plan.dp is None:
            raise ConfigurationError("audit: the run has no differential privacy")
        return self.plan.dp

    @property
    def delta(self) -> float:
        """At which epsilon is claimed."""
        return self.config.privacy.delta or 0.0

    @property
    def rows_a_unit(self) -> int:
        """How many texts stand for one record or customer."""
        return ROWS_A_CUSTOMER if self.dp.unit == "customer" else 1

    def step(self, units: int, **changes: Any) -> DpTrainingPlan:
        """The plan of one step over all of `units`, without noise unless `changes` to `DpSettings` say otherwise."""
        once = {"noise_multiplier": 0.0, "sampling_probability": 1.0, "steps": 1, "expected_batch_size": units / 2}
        dp = replace(self.dp, **(once | changes))
        return replace(self.plan, steps=dp.steps, sampling_probability=dp.sampling_probability, dp=dp)


def load_subject(config: RunConfig, units: int, device: str = "cpu") -> Subject:
    """Load the model of `config` and plan its training for an institution of about `units` records or customers.

    Adam is audited as SGD: it post-processes the same noised sums, which SGD shows plainly.

    Raises:
        ConfigurationError: the run claims nothing, or cannot be trained on so few units.
        ModelError: see `load_base`.
    """
    if config.privacy.mode == "none":
        raise ConfigurationError('privacy.mode is "none": such a run claims nothing that could be audited')
    kind = task(config.task)
    if not kind.head.is_linear and not kind.head.writes_text:
        raise ConfigurationError(f"task.name: {config.task} cannot be audited: choose one with labels or responses")
    if config.adapter.method != "lora":
        raise ConfigurationError(f"adapter.method: {config.adapter.method} cannot be audited: choose lora")
    size = power_of_two_at_most(units)
    institution = InstitutionConfig(
        name="audit",
        model=LocalModelConfig(allowed=(config.model.base,)),
        limits=LimitsConfig(delta=config.privacy.delta, unit=config.privacy.unit),
        release=ReleaseConfig(declared_units=size),
    )
    try:
        plan = plan_training(config, institution, units)
    except AssignmentRefused as refused:
        raise ConfigurationError(f"audit: {refused}, with {units} of them: give more canaries") from None
    steps = plan.steps * config.rounds
    dp = replace(plan.dp, steps=steps) if plan.dp else None
    training = replace(plan, steps=steps, dp=dp)
    plan = replace(training, optimizer="sgd", adam_noise_correction=False)
    base = load_for_run(config, len(config.labels or _LABELS), device)
    model = attach_for_run(base, config)
    event = DpSgdEvent(dp.noise_multiplier, dp.sampling_probability, steps) if dp else DpSgdEvent(0.0, 1.0, steps)
    return Subject(config, base, model, training, plan, epsilon([event], config.privacy.delta or 0.5))


def random_texts(model: AdaptedModel, units: int, rows_a_unit: int = 1) -> TokenizedSet:
    """Return texts of random tokens and mixed lengths, owned by `units` customers of `rows_a_unit` texts each."""
    rng = np.random.default_rng()
    longest = min(_LONGEST, model.base.max_tokens)
    lengths = rng.integers(min(_SHORTEST, longest), longest + 1, units * rows_a_unit)
    return replace(
        random_examples(model, lengths.tolist(), rng), owners=np.repeat(np.arange(units), rows_a_unit).astype(np.int64)
    )


def units_of(data: TokenizedSet, keep: NDArray[np.bool_]) -> TokenizedSet:
    """The texts of the units that `keep`, (U,), is true of."""
    if data.owners is None or data.labels is None:
        raise ValueError("texts without owners or labels")
    rows = np.flatnonzero(keep[data.owners])
    return replace(
        data,
        input_ids=tuple(data.input_ids[row] for row in rows),
        labels=tuple(data.labels[row] for row in rows),
        owners=data.owners[rows],
    )


def perturb(model: AdaptedModel) -> None:
    """Put `model` away from its start, where B and the head are zero and hide most gradients."""
    model.load({name: start + 0.3 * seeded(0, name, start.shape) for name, start in model.initial().items()})


def step_sum(
    model: AdaptedModel,
    before: dict[str, NDArray[np.float32]],
    after: dict[str, NDArray[np.float32]],
    plan: DpTrainingPlan,
    expected_batch_size: float,
) -> NDArray[np.float64]:
    """(P,) the sum of clipped gradients, noise included, that one SGD step from `before` to `after` was made of."""
    rates = {name: plan.head_learning_rate if name in model.head_names() else plan.learning_rate for name in before}
    moved = {name: (before[name].astype(np.float64) - after[name]) / rates[name] for name in before}
    return np.concatenate([moved[name].ravel() for name in sorted(moved)]) * expected_batch_size

"""Learn one representation for two domains: a classifier learns to tell them apart, and the encoder learns against it.

Ganin & Lempitsky 2015 (arXiv 1409.7495): on the way back from the domain classifier the gradient is multiplied by
-strength, so that the encoder unlearns the difference of the domains, while it learns the task on the labelled domain.
The strength rises from 0 as in the paper: 2 / (1 + exp(-10 p)) - 1 at progress p. A plain adapter is saved.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import Tensor, nn

from client.finetune.job import FineTuningJob
from client.finetune.result import FineTuningResult
from client.finetune.strategies.encoder_watch import pooled_features
from client.finetune.strategies.finish import finish
from client.finetune.strategies.scaffold import train, validator
from client.finetune.strategies.session import Session, open_session
from client.finetune.training.plan import Minibatch, TrainingSet, grouped_minibatches
from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import example_losses
from common.base_models.heads import MeanPoolClassifier
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError
from common.evaluation.evaluator import make_evaluator
from common.events import Observer, StepEvent

__all__ = ["AdversarialJob", "Adversary", "reversed_gradient", "run", "strength"]

_RATE = 1e-2
"""Learning rate of the domain classifier, which is never saved. At 1e-3 it was too slow to follow the encoder."""
_COMPARED = 400
_CLOSER = 0.05
"""Fall of the accuracy of a new domain classifier below which the training had no effect on the domains."""


@dataclass(frozen=True, kw_only=True)
class AdversarialJob(FineTuningJob):
    """Adversarial training on two domains. `data` is the domain with labels.

    Attributes:
        other: Text of the other domain, without labels.
        max_strength: Final strength of the reversed gradient. At the paper's value of 1, a tiny model that was trained
            for long lost the task.
    """

    other: Dataset
    max_strength: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data[0].task.head.labels_texts or self.pooling != "mean":
            raise ConfigurationError("domain_adversarial: it needs a task that labels whole texts, and pooling mean")
        if self.privacy is not None:
            raise ConfigurationError("domain_adversarial: it trains without privacy: two domains share each step")
        if not 0 <= self.max_strength <= 10:
            raise ConfigurationError(f"max_strength is {self.max_strength:g}: use a number from 0 to 10")
        if len(self.other) < 2:
            raise ConfigurationError("domain_adversarial: the other domain holds fewer than two texts")

    @property
    def further_inputs(self) -> dict[str, Dataset | float]:
        """The other domain's text, and the strength."""
        return {"other": self.other, "max_strength": self.max_strength}


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reversed_gradient(value: Tensor, factor: float) -> Tensor:
    """Return `value`. In the backward pass its gradient is multiplied by -`factor`."""
    result: Tensor = _Reversal.apply(value, factor)  # type: ignore[no-untyped-call]
    return result


def strength(progress: float, most: float = 1.0) -> float:
    """Return the strength of the reversed gradient.

    Args:
        progress: Share of the steps that are done, 0 to 1.
        most: Strength at the end.
    """
    return most * (2 / (1 + math.exp(-10 * progress)) - 1)


@dataclass
class Adversary(Observer):
    """The domain classifier on a model's pooled features, and an observer that takes its steps."""

    model: AdaptedModel
    most: float
    seed: int
    factor: float = 0.0
    features: Tensor | None = None
    classifier: nn.Linear = field(init=False)

    def __post_init__(self) -> None:
        body = self.model.base.model
        if not isinstance(body, MeanPoolClassifier):
            raise ConfigurationError("domain_adversarial: the base model's features are not pooled by their mean")
        config: Any = body.config
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.classifier = nn.Linear(int(config.hidden_size), 2).to(self.model.base.device)
        self._optimizer = torch.optim.Adam(self.classifier.parameters(), lr=_RATE)
        head: Any = body.classifier
        self._handle = head.register_forward_pre_hook(self._keep)

    def losses(self, domain: int, labelled: bool, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the (B,) losses of the last batch: of the domain, with a reversed gradient, and of the label."""
        if self.features is None:
            raise RuntimeError("no text went through the model")
        told = self.classifier(reversed_gradient(self.features.float(), self.factor))
        domains = torch.full((len(told),), domain, device=told.device)
        loss = nn.functional.cross_entropy(told, domains, reduction="none")
        return loss + example_losses(logits, labels) if labelled else loss

    def on_step(self, event: StepEvent) -> None:
        """Take a step of the domain classifier, and set the strength for the next step."""
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.factor = strength(event.step / event.steps, self.most)

    def close(self) -> None:
        """Remove the hook from the model."""
        self._handle.remove()

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]


def run(job: AdversarialJob) -> FineTuningResult:
    """Train. The metrics include the accuracy with which a new classifier tells the domains apart, before and after.

    Chance is .5. An interrupted training starts again from its beginning, and ends in the same adapter.

    Raises:
        FedfinError: One line that names the wrong input.
    """
    session = open_session(job, {"other": job.other})
    if session.done is not None:
        return session.done
    [part] = session.parts
    before = _told_apart(session.model, part.train, job.other)
    trained = _train(session, job)
    metrics: dict[str, Any] = dict(make_evaluator(session.model, part.data.task, part.data.test)())
    after = _told_apart(session.model, part.train, job.other)
    metrics["domains_told_apart"] = {"before": before, "after": after}
    result = finish(session, metrics, trained)
    if after < before - _CLOSER:
        return result
    warning = (
        f"the domains are told apart as well as before ({before:.2f}, then {after:.2f}, chance is 0.5): it depends "
        "on the seed, so try another seed or a larger strength"
    )
    return replace(result, warnings=(*result.warnings, warning))


def _train(session: Session, job: AdversarialJob) -> dict[str, float]:
    # The saved state of an interrupted training does not include the domain classifier.
    session.state.unlink(missing_ok=True)
    model, [part] = session.model, session.parts
    adversary = Adversary(model, job.max_strength, job.seed)
    other = model.encode_dataset(job.other)
    unlabelled = replace(other, labels=tuple(np.array(0, dtype=np.int64) for _ in range(len(other))))
    sets = [
        TrainingSet(model.encode_dataset(part.train), model.logits, loss=partial(adversary.losses, 0, True)),
        TrainingSet(unlabelled, model.logits, loss=partial(adversary.losses, 1, False)),
    ]
    deal = partial(_minibatches, sets, session.settings.batch_size)
    validate = validator(session, part.data.task, part.validation)
    try:
        return train(session, sets, validate, minibatches=deal, observers=(adversary,))
    finally:
        adversary.close()


def _minibatches(parts: Sequence[TrainingSet], size: int, generator: np.random.Generator) -> list[Minibatch]:
    """Return minibatches with half of the rows from each domain. The smaller domain repeats."""
    half = max(1, size // 2)
    sides = [grouped_minibatches(part.tokens.lengths, half, generator) for part in parts]
    steps = max(len(side) for side in sides)
    return [((0, sides[0][step % len(sides[0])]), (1, sides[1][step % len(sides[1])])) for step in range(steps)]


def _told_apart(model: AdaptedModel, one: Dataset, two: Dataset) -> float:
    """Return the cross-validated accuracy of a logistic regression on equally many texts of both domains."""
    count = min(len(one), len(two), _COMPARED)
    features = [pooled_features(model, model.encode(_texts(side)[:count])) for side in (one, two)]
    domains = np.repeat([0, 1], count)
    folds = min(5, count)
    return float(cross_val_score(LogisticRegression(max_iter=1000), np.concatenate(features), domains, cv=folds).mean())


def _texts(side: Dataset) -> list[str]:
    return [example.text for example in side.examples if isinstance(example, Example)]

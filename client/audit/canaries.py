"""Gradient canaries in the real training loop: how well does an attacker tell which ones were trained on?

A canary is a unit whose gradient is one coordinate of the adapter, longer than the clipping norm. No two share a
coordinate, so the attacker sees each one as clearly as the guarantee allows at all. A fair coin puts each canary into
the data. Sampling, clipping, the integer sum, the noise and the optimiser are those of a real training. The attacker
sees the model after every step, as the accountant assumes, and knows every canary and the mechanism, but not the coins,
the batches and the noise. Its score is the likelihood ratio of a canary's coordinate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.audit.one_run import Guesses, best_bound, largest_bound
from client.audit.subject import Subject, step_sum
from client.dp.noise import SystemNoise
from client.dp.training import train
from common.errors import ConfigurationError
from common.events import Observer, StepEvent
from common.privacy.accounting import DpSgdEvent
from common.protocol.adapter_codec import Tensors
from common.tokenization.batches import TokenizedSet

__all__ = ["CanaryResult", "attack"]

_LONGER = 4.0  # length of a canary's gradient, in clipping norms

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CanaryResult:
    """The findings of the canaries.

    Attributes:
        lower_bound: of epsilon, at the run's delta; it holds with probability `confidence`.
        possible: the bound if every guess had been right: so few canaries cannot show more.
        guesses: the guesses behind the bound.
        noise_multiplier: of the noise that was added: the claim's, unless other noise was planted.
        steps: steps of the training, each of which was attacked.
    """

    lower_bound: float
    confidence: float
    possible: float
    guesses: Guesses
    noise_multiplier: float
    steps: int


def attack(
    subject: Subject,
    canaries: int,
    confidence: float,
    noise_multiplier: float | None = None,
    progress: Progress | None = None,
) -> CanaryResult:
    """Train on the canaries that the coins chose, guess the coins, and bound epsilon.

    Args:
        noise_multiplier: plants other noise than the claim needs. 0 shows the attack without any noise.
        progress: called with the name of the work under way, the number done, and the number in all.

    Raises:
        ConfigurationError: there are more canaries than the adapter has numbers.
    """
    model, dp = subject.model, subject.dp
    if canaries > model.parameters_trained:
        raise ConfigurationError(
            f"canaries is {canaries}, but this adapter has {model.parameters_trained} numbers: use no more of them"
        )
    report = progress or (lambda *_: None)
    rng = np.random.default_rng()
    included = rng.random(canaries) < 0.5
    places = rng.choice(model.parameters_trained, canaries, replace=False)
    signs = rng.choice([-1.0, 1.0], canaries)
    noise = dp.noise_multiplier if noise_multiplier is None else noise_multiplier
    # Rates of 1 and weights near zero, so that float32 weights show the steps themselves.
    plan = replace(
        subject.plan, dp=replace(dp, noise_multiplier=noise), learning_rate=1.0, head_learning_rate=1.0, optimizer="sgd"
    )
    inside = _order(subject)[places[included]]
    model.load({name: np.zeros(shape, np.float32) for name, shape, _ in model.spec.tensors})
    seen: list[Tensors] = [model.export()]
    scores = np.zeros(canaries)

    def gradients(rows: NDArray[np.int64]) -> Tensor:
        units = torch.zeros(len(rows), model.parameters_trained)
        units[torch.arange(len(rows)), torch.from_numpy(inside[rows])] = torch.from_numpy(
            (signs[included][rows] * _LONGER * dp.clipping_norm).astype(np.float32)
        )
        return units

    def attack(event: StepEvent) -> None:
        after = model.export()
        moved = step_sum(model, seen.pop(), after, plan, dp.expected_batch_size) / dp.clipping_norm
        scores.__iadd__(_log_ratio(moved[places] * signs, dp.sampling_probability, max(noise, 1e-3)))
        model.load({name: np.zeros_like(value) for name, value in after.items()})
        seen.append(model.export())
        report("training on the canaries", event.step, event.steps)

    units = np.zeros(int(included.sum()), dtype=np.int64)
    data = TokenizedSet((units[:1],) * len(units), (units[0],) * len(units), 0, np.arange(len(units)))
    train(model, data, plan, SystemNoise(), observers=(_AfterEachStep(attack),), gradients=gradients)
    claim = DpSgdEvent(dp.noise_multiplier, dp.sampling_probability, plan.steps)
    bound, guesses = best_bound(scores, included, claim, subject.delta, confidence)
    possible = largest_bound(canaries, claim, subject.delta, confidence)
    return CanaryResult(bound, confidence, possible, guesses, noise, plan.steps)


class _AfterEachStep(Observer):
    """Calls a function after each step."""

    def __init__(self, call: Callable[[StepEvent], None]) -> None:
        self._call = call

    def on_step(self, event: StepEvent) -> None:
        self._call(event)


def _order(subject: Subject) -> NDArray[np.int64]:
    """(P,) for each number of the adapter, by sorted name, its place in the optimiser's vector."""
    trained = subject.model.trainable()
    heads = subject.model.head_names()
    starts, start = {}, 0
    for name in [n for n in trained if n not in heads] + [n for n in trained if n in heads]:
        starts[name] = start
        start += trained[name].numel()
    return np.concatenate([starts[name] + np.arange(trained[name].numel()) for name in sorted(trained)])


def _log_ratio(sums: NDArray[np.float64], probability: float, noise: float) -> NDArray[np.float64]:
    """(m,) log likelihood ratio of a canary that is in the data, from its coordinate in one step, in clipping norms."""
    exponent = np.minimum((2 * sums - 1) / (2 * noise**2), 700.0)
    return np.log1p(probability * np.expm1(exponent))

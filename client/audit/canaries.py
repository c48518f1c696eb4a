"""Canaries in the real training loop: whom does the noised model betray?

Each canary is put among the training texts by a fair coin. The attacker sees the model after every step, as the
accountant assumes, and knows every canary and the mechanism; not the coins, not the batches, not the noise. From each
step's change it estimates, for all canaries at once, how much of each one's clipped gradient is in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.audit.one_run import Guesses, best_bound, largest_bound
from client.audit.subject import Subject, random_texts, step_sum, units_of
from client.dp.mechanism import clipping_factors, example_gradients
from client.dp.noise import SystemNoise
from client.dp.training import train
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import batch_losses
from common.errors import ConfigurationError
from common.protocol.adapter_codec import Tensors
from common.tokenization.batches import TokenizedSet, token_batches

__all__ = ["CanaryResult", "attack"]

Progress = Callable[[str, int, int], None]

_STEPS = 200  # an attacker that looks at fewer steps of a long run is a weaker one, and still an attacker
_LARGEST = 2**30  # numbers in the matrix of the canaries' gradients: 4 GiB


@dataclass(frozen=True)
class CanaryResult:
    """What the canaries showed. `lower_bound` of epsilon holds with probability `confidence`, at the run's delta.

    possible: the bound if every guess had been right: more than this, so few canaries cannot show.
    noise_multiplier: of the noise that was really asked for, the claim's own unless another was planted.
    """

    lower_bound: float
    confidence: float
    possible: float
    guesses: Guesses
    noise_multiplier: float
    steps: int
    steps_attacked: int


def attack(
    subject: Subject,
    canaries: int,
    confidence: float,
    noise_multiplier: float | None = None,
    progress: Progress | None = None,
) -> CanaryResult:
    """Train on the canaries that the coins chose, guess the coins, and bound epsilon.

    Args:
        noise_multiplier: plants other noise than the claim needs; 0 shows what the attack sees where there is none.
        progress: called with what is done, how far, of how much.

    Raises:
        ConfigurationError: the canaries' gradients do not fit in memory.
    """
    if canaries * subject.model.parameters_trained > _LARGEST:
        most = _LARGEST // subject.model.parameters_trained
        raise ConfigurationError(f"--canaries: {canaries} gradients of this adapter do not fit: use at most {most}")
    report = progress or (lambda *_: None)
    noise = subject.dp.noise_multiplier if noise_multiplier is None else noise_multiplier
    plan = replace(subject.plan, dp=replace(subject.dp, noise_multiplier=noise))
    model, data = subject.model, random_texts(subject.model, canaries, subject.rows_a_unit)
    included = np.random.default_rng().random(canaries) < 0.5
    watched = np.unique(np.linspace(1, plan.steps, min(plan.steps, _STEPS)).round().astype(int))
    model.load(model.initial())
    seen: dict[int, Tensors] = {0: model.export()}
    needed = {int(step) for step in watched} | {int(step) - 1 for step in watched}

    def on_step(done: int, total: int) -> None:
        if done in needed:
            seen[done] = model.export()
        report("training on the canaries", done, total)

    train(model, units_of(data, included), plan, SystemNoise(), on_step=on_step)
    scores, cache = np.zeros(canaries), FeatureCache()
    for number, step in enumerate(watched, start=1):
        before, after = seen[int(step) - 1], seen[int(step)]
        model.load(before)
        gradients = _clipped_gradients(subject, data, cache)
        total = step_sum(model, before, after, plan, subject.dp.expected_batch_size)
        scores += _presence(gradients, torch.from_numpy(total).to(torch.float32), subject, noise)
        report("looking for them in the steps", number, len(watched))
    bound, guesses = best_bound(scores, included, subject.delta, confidence)
    possible = largest_bound(canaries, subject.delta, confidence)
    return CanaryResult(bound, confidence, possible, guesses, noise, plan.steps, len(watched))


def _clipped_gradients(subject: Subject, data: TokenizedSet, cache: FeatureCache) -> Tensor:
    """(m, P) what each canary would add to the sum at the model's present weights."""
    model, tokens = subject.model, subject.plan.max_batch_tokens
    cache.fill(model, data, tokens)
    parts = token_batches(data.lengths, np.arange(len(data)), tokens)
    parameters = [parameter for _, parameter in sorted(model.trainable().items())]
    batches = [cache.batch(data, part, model.base.device) for part in parts]
    model.train_mode(dropout=False)
    try:
        losses = [lambda batch=batch: batch_losses(model, batch) for batch in batches]
        rows = example_gradients(model.module, parameters, losses)
    finally:
        model.eval_mode()
    owners = torch.from_numpy((data.owners if data.owners is not None else np.arange(len(data)))[np.concatenate(parts)])
    units = torch.zeros(int(owners.max()) + 1, rows.shape[1]).index_add_(0, owners, rows)
    norms = torch.linalg.vector_norm(units, dim=1)
    return units * clipping_factors(norms, subject.dp)[:, None]


def _presence(gradients: Tensor, total: Tensor, subject: Subject, noise: float) -> NDArray[np.float64]:
    """(m,) the best linear estimate of how often each gradient is in `total`: 0 or 1, drowned in noise.

    A canary is in a step with probability q / 2. With mean q / 2 and variance v = q / 2 (1 - q / 2) for each, and noise
    of variance s^2, it is q / 2 + (G G' + s^2 / v)^-1 G (total - q / 2 G' 1).
    """
    chance = subject.dp.sampling_probability / 2
    spread = (max(noise, 1e-3) * subject.dp.clipping_norm) ** 2 / (chance * (1 - chance))
    rest = gradients.double() @ (total - chance * gradients.sum(0)).double()
    gram = (gradients @ gradients.T).double()
    gram.diagonal().add_(spread)
    found: NDArray[np.float64] = (chance + torch.linalg.solve(gram, rest)).clamp(0, 1).numpy()
    return found

"""The mechanism as it runs, held directly against what the accountant assumes: noise, sampling, sensitivity.

A one-run audit cannot see noise that a bug has halved; these can. Each runs the real training loop on random texts,
looks only at what comes out of it (weights, and which rows were asked for), and gives the chance of so strange a result
where all is well.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from client.audit.sensitivity import Neighbours, hostile_adapters, movement
from client.audit.subject import Subject, perturb, random_texts, step_sum
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.adapters.feature_cache import FeatureCache
from common.events import Observer, StepEvent
from common.report.records import Check
from common.tokenization.batches import Batch, TokenizedSet
from common.tokenization.blocks import Block

__all__ = ["check_noise", "check_sampling", "check_sensitivity", "run_checks"]

SURPRISE = 1e-5
"""A check fails where all would be well with less than this chance; false alarms are then rarer than one in 10,000."""

_UNITS = 32  # in the checks of one step
_NOISE_VALUES = 20_000  # at least, so that a scale wrong by a fortieth shows
_INCLUSIONS = 16  # units in a step of the sampling check, on average
_SAMPLED_STEPS = 200
_SENSITIVITY_UNITS = 16  # units in the check of one unit's influence
_ORDINARY, _HOSTILE = 4, 8  # units that are moved at ordinary weights, and adapters that a hub may send


def run_checks(
    subject: Subject, noise_multiplier: float | None = None, progress: Callable[[str, int, int], None] | None = None
) -> list[Check]:
    """All of them; `noise_multiplier` plants other noise than the claim needs."""
    report = progress or (lambda *_: None)
    report("checking noise, sampling and sensitivity", 0, 3)
    found = check_noise(subject, noise_multiplier)
    report("checking noise, sampling and sensitivity", 1, 3)
    found += check_sampling(subject)
    report("checking noise, sampling and sensitivity", 2, 3)
    found += check_sensitivity(subject)
    report("checking noise, sampling and sensitivity", 3, 3)
    return found


def check_noise(subject: Subject, noise_multiplier: float | None = None) -> list[Check]:
    """A step with noise minus the same step without is the noise: normal, of standard deviation sigma C, always new."""
    data, cache = random_texts(subject.model, _UNITS, subject.rows_a_unit), FeatureCache()
    subject.model.load(subject.model.initial())
    silent = _sum(subject, data, subject.step(_UNITS), cache)
    asked = subject.dp.noise_multiplier if noise_multiplier is None else noise_multiplier
    scale = subject.dp.noise_multiplier * subject.dp.clipping_norm
    noisy = subject.step(_UNITS, noise_multiplier=asked)
    trainings = max(2, math.ceil(_NOISE_VALUES / silent.size))
    drawn = [(_sum(subject, data, noisy, cache) - silent) / scale for _ in range(trainings)]
    one, other, both = drawn[0], drawn[1], np.concatenate(drawn)
    squares, shape = float((both**2).sum()), stats.kstest(both, "norm")
    scale_p = _two_sided(stats.chi2(both.size), squares)
    product = float(one @ other)
    correlation = product / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)
    product_p = 2 * float(stats.norm.sf(abs(product) / math.sqrt(one.size)))
    deviation = math.sqrt(squares / both.size)
    return [
        _chance("noise scale", "standard deviation of the noise, over sigma C", deviation, 1.0, scale_p),
        _chance("noise shape", "distance from a normal distribution", float(shape.statistic), 0.0, float(shape.pvalue)),
        _chance("noise is new", "correlation of the noise of two trainings", correlation, 0.0, product_p),
    ]


class _Watched(FeatureCache):
    """Notes the rows that the loop asks for. Every example that it computes passes through here."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[NDArray[np.int64]] = []

    def block_batch(self, data: TokenizedSet, block: Block, device: str) -> Batch:
        self.rows.append(block.rows)
        return super().block_batch(data, block, device)


def check_sampling(subject: Subject) -> list[Check]:
    """Who is in which step: each unit in each, independently, with the stated probability."""
    q = subject.dp.sampling_probability
    units = min(2048, max(2 * _INCLUSIONS, math.ceil(_INCLUSIONS / q)))
    data, cache = random_texts(subject.model, units, subject.rows_a_unit), _Watched()
    drawn = np.zeros((_SAMPLED_STEPS, units), dtype=np.int64)

    class Draws(Observer):
        def on_step(self, event: StepEvent) -> None:
            if cache.rows and data.owners is not None:
                np.add.at(drawn[event.step - 1], data.owners[np.concatenate(cache.rows)], 1)
            cache.rows.clear()

    noise = subject.dp.noise_multiplier
    plan = subject.step(units, noise_multiplier=noise, sampling_probability=q, steps=_SAMPLED_STEPS)
    subject.model.load(subject.model.initial())
    train(subject.model, data, plan, SystemNoise(), cache, (Draws(),))
    whole = drawn // subject.rows_a_unit
    apart = int((drawn != whole * subject.rows_a_unit).sum() + (whole > 1).sum())
    total = int(whole.sum())
    rate_p = float(stats.binomtest(total, whole.size, q).pvalue)
    found = [
        _chance("sampling rate", "share of the units in a step", total / whole.size, q, rate_p),
        Check("whole units", "units drawn in part, or twice in a step", apart, 0, None, apart == 0),
    ]
    if q < 1:
        sizes, sizes_p = _dispersion(whole.sum(1), units, q)
        turns, turns_p = _dispersion(whole.sum(0), _SAMPLED_STEPS, q)
        found += [
            _chance("batches vary", "variance of the batch size, over a binomial's", sizes, 1.0, sizes_p),
            _chance("no turns are taken", "variance of a unit's steps, over a binomial's", turns, 1.0, turns_p),
        ]
    return found


def _dispersion(counts: NDArray[np.int64], n: int, q: float) -> tuple[float, float]:
    """Variance of `counts` over that of Binomial(n, q), and the chance of one so far from 1.

    Batches of a fixed size give 0, rows taken in turns nearly so. The sum of K squared deviations in units of the
    variance has mean K and variance K (2 + (1 - 6 q (1 - q)) / (n q (1 - q))), which a gamma distribution matches.
    """
    variance = n * q * (1 - q)
    squares = float(((counts - n * q) ** 2).sum()) / variance
    spread = 2 + (1 - 6 * q * (1 - q)) / variance
    return squares / len(counts), _two_sided(stats.gamma(len(counts) / spread, scale=spread), squares)


def check_sensitivity(subject: Subject) -> list[Check]:
    """One unit more or less moves the integer sum by at most C, and not at all if it is not drawn.

    At ordinary weights, where it moves by about C, and at adapters that try to make examples depend on each other. The
    training itself refuses an adapter at which they do.
    """
    data, plan = random_texts(subject.model, _SENSITIVITY_UNITS, subject.rows_a_unit), subject.step(_SENSITIVITY_UNITS)
    rng = np.random.default_rng()
    perturb(subject.model)
    drawn, undrawn = zip(
        *(movement(subject.model, Neighbours.of(data, unit), plan) for unit in range(_ORDINARY)), strict=True
    )
    for _, adapter in itertools.islice(hostile_adapters(subject.model, data, rng), _HOSTILE):
        subject.model.load(adapter)
        moved = movement(subject.model, Neighbours.of(data, int(rng.integers(_SENSITIVITY_UNITS))), plan)
        drawn, undrawn = (*drawn, moved[0]), (*undrawn, moved[1])
    subject.model.load(subject.model.initial())
    most = f"largest change by one {subject.dp.unit} more or less, over C"
    least = f"largest change by one {subject.dp.unit} that is not drawn, over C"
    return [
        Check("sensitivity", most, max(drawn), 1.0, None, 0 < max(drawn) <= 1),
        Check("undrawn units", least, max(undrawn), 0.0, None, max(undrawn) == 0),
    ]


def _sum(subject: Subject, data: TokenizedSet, plan: DpTrainingPlan, cache: FeatureCache) -> NDArray[np.float64]:
    """(P,) the sum that one step from the model's present weights is made of; the weights are put back."""
    before = subject.model.export()
    train(subject.model, data, plan, SystemNoise(), cache)
    after = subject.model.export()
    subject.model.load(before)
    expected = plan.dp.expected_batch_size if plan.dp is not None else 1.0
    return step_sum(subject.model, before, after, plan, expected)


def _two_sided(law: Any, value: float) -> float:
    return min(1.0, 2 * min(float(law.cdf(value)), float(law.sf(value))))


def _chance(name: str, quantity: str, measured: float, stated: float, p_value: float) -> Check:
    return Check(name, quantity, measured, stated, p_value, p_value >= SURPRISE)

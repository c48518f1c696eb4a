"""A limit holds if each training is chosen after the results of earlier ones, and one fixed run fits it exactly."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from numpy.typing import NDArray
from scipy.special import ndtr, roots_legendre

from common.errors import BudgetExceeded
from common.identity.keys import PrivateKeys
from common.privacy.accounting import MAX_STEPS, DpSgdEvent, PrivacyLimit, calibrate, epsilon
from common.privacy.charges import ChargeContext
from common.privacy.filter import (
    Spending,
    filter_epsilon,
    fits,
    is_kept_for_one_mechanism,
    renyi_divergence,
    steps_left,
)
from common.privacy.ledger import PrivacyLedger

LIMIT = PrivacyLimit(8.0, 1e-6)
FIRST = DpSgdEvent(1.0, 1.0, 2)
Reals = NDArray[np.float64]


def test_a_divergence_is_that_of_dp_accounting_at_whole_orders() -> None:
    orders = [2, 3, 8, 64]
    for noise, probability in ((1.0, 0.01), (0.5, 0.3), (3.0, 0.1), (0.2, 0.5), (2.0, 1.0)):
        accountant = RdpAccountant(orders)
        accountant.compose(PoissonSampledDpEvent(probability, GaussianDpEvent(noise)))
        own = [renyi_divergence(noise, probability, float(order)) for order in orders]
        assert own == pytest.approx(list(accountant._rdp), rel=1e-6)
        assert renyi_divergence(noise, probability, 2.5) == pytest.approx(np.interp(2.5, [2, 3], own[:2]), rel=0.1)


def test_at_small_noise_the_divergence_is_bounded_from_above() -> None:
    assert renyi_divergence(0.04, 0.01, 2.0) == 2.0 / (2 * 0.04**2) > renyi_divergence(0.06, 0.01, 2.0)
    assert renyi_divergence(0.0, 0.5, 2.0) == math.inf


@pytest.mark.parametrize("limit", [LIMIT, PrivacyLimit(1.0, 1e-5), PrivacyLimit(0.1, 1e-9), PrivacyLimit(100.0, 1e-6)])
@pytest.mark.parametrize("event", [DpSgdEvent(1.56, 0.25, 60), DpSgdEvent(0.7, 0.02, 300), FIRST])
def test_the_filter_proves_no_less_than_privacy_loss_distributions(limit: PrivacyLimit, event: DpSgdEvent) -> None:
    assert filter_epsilon([event], limit) >= epsilon([event], limit.delta) * 0.997


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert filter_epsilon([], LIMIT) == filter_epsilon([DpSgdEvent(0.0, 0.5, 0)], LIMIT) == 0.0
    assert filter_epsilon([DpSgdEvent(0.0, 0.5, 1)], LIMIT) == math.inf
    assert not fits([], Spending(DpSgdEvent(0.0, 0.5, 1)), LIMIT)


def gaussian(loss: Reals, mu: float) -> Reals:
    """Delta at epsilon `loss` of telling N(0, 1) from N(mu, 1)."""
    result: Reals = ndtr(mu / 2 - loss / mu) - np.exp(np.minimum(loss, 700)) * ndtr(-mu / 2 - loss / mu)
    return result


def sampled(loss: Reals, noise: float, probability: float) -> Reals:
    """Delta at epsilon `loss`, which may be negative, of one sampled step if a unit is removed."""
    ratio = np.exp(np.minimum(loss, 700))
    inside = (ratio - (1 - probability)) / probability
    cut = np.where(inside > 0, noise**2 * np.log(np.maximum(inside, 1e-300)) + 0.5, -np.inf)
    kept = (1 - probability) * ndtr(-cut / noise) + probability * ndtr(-(cut - 1) / noise)
    result: Reals = kept - ratio * ndtr(-cut / noise)
    return result


def largest(event: Callable[[float], DpSgdEvent], admitted: Callable[[DpSgdEvent], bool]) -> DpSgdEvent | None:
    """The event with the least noise that is admitted, or None."""
    low, high = 0.05, 1e4
    if not admitted(event(high)):
        return None
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if admitted(event(middle)) else (middle, high)
    return event(high)


@pytest.mark.parametrize("probability", [0.001, 0.05])
def test_no_second_run_that_is_chosen_after_the_first_exceeds_the_limit(tmp_path: Path, probability: float) -> None:
    """The chooser sees the first run's loss, and takes the second run with the larger delta there."""
    nodes, weights = roots_legendre(4000)
    z, mu = 12 * nodes, math.sqrt(FIRST.steps) / FIRST.noise_multiplier
    loss, density = mu * z + mu**2 / 2, np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * 12 * weights
    spent = [Spending(FIRST, FIRST.steps)]

    def admitted(event: DpSgdEvent) -> bool:
        return fits(spent, Spending(event, event.steps), LIMIT)

    plain = largest(lambda noise: DpSgdEvent(noise, 1.0, 1), admitted)
    other = largest(lambda noise: DpSgdEvent(noise, probability, 1), admitted)
    assert plain is not None
    assert other is not None
    after_plain = gaussian(8.0 - loss, 1 / plain.noise_multiplier)
    after_other = sampled(8.0 - loss, other.noise_multiplier, probability)
    assert float(density @ np.maximum(after_plain, after_other)) <= LIMIT.delta
    # What admission by privacy-loss distributions allowed exceeded it.
    tight = largest(lambda noise: DpSgdEvent(noise, 1.0, 1), lambda event: epsilon([FIRST, event], 1e-6) <= 8.0)
    assert tight is not None
    assert tight.noise_multiplier < plain.noise_multiplier


def context(**changes: object) -> ChargeContext:
    values: dict[str, object] = {
        "run_id": "run", "round": 1, "requester": "hub", "task": "t", "base_digest": "b", "data_fingerprint": "f",
        "num_units": 9, "delta": 1e-6, "clipping_norm": 1.0,
    }  # fmt: skip
    return ChargeContext(**values | changes)


def test_a_run_that_is_calibrated_to_the_limit_fits_exactly_and_then_nothing_else_does(tmp_path: Path) -> None:
    noise, rounds, steps = calibrate(8.0, 1e-6, 0.25, 40), 8, 5
    event, declared = DpSgdEvent(noise, 0.25, steps), rounds * steps
    other = DpSgdEvent(100.0, 0.01, 1)
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", PrivateKeys.generate("bank")) as ledger:
        for number in range(rounds):
            # Stopping the run early and choosing another one was not fixed beforehand, so it is never admitted.
            if number:
                with pytest.raises(BudgetExceeded, match="first run spends the whole limit"):
                    ledger.reserve(other, context(run_id="other", run_steps=1), LIMIT)
            ledger.settle(ledger.reserve(event, context(round=number, run_steps=declared), LIMIT), steps)
        assert 7.9 < ledger.epsilon(1e-6) <= 8.0
        with pytest.raises(BudgetExceeded, match="above the limit 8"):
            ledger.reserve(event, context(round=rounds, run_steps=declared), LIMIT)
        ledger.reserve(other, context(run_id="other", run_steps=1), PrivacyLimit(20.0, 1e-6))  # the officer raises it
        assert len(ledger.charges) == rounds + 1


def test_the_first_run_decides_before_it_has_any_result() -> None:
    small, large = Spending(DpSgdEvent(1.56, 0.25, 5), 5), Spending(DpSgdEvent(1.56, 0.25, 5), 60)
    assert not is_kept_for_one_mechanism([small], LIMIT)
    assert is_kept_for_one_mechanism([large], LIMIT)
    assert is_kept_for_one_mechanism([large, small], LIMIT)
    assert not is_kept_for_one_mechanism([small, large], LIMIT)
    # After a small first run the tight figure alone admits nothing.
    assert epsilon([small.event, DpSgdEvent(1.56, 0.25, 55)], 1e-6) <= 8.0
    assert not fits([small], Spending(DpSgdEvent(1.56, 0.25, 55), 55), LIMIT)


def test_steps_left_is_the_last_step_that_fits() -> None:
    spent, event = [Spending(DpSgdEvent(1.0, 0.01, 500))], DpSgdEvent(1.3, 0.02, 1)
    limit = PrivacyLimit(3.0, 1e-5)
    left = steps_left(spent, Spending(event), limit)
    assert left > 1
    assert fits(spent, Spending(DpSgdEvent(1.3, 0.02, left)), limit)
    assert not fits(spent, Spending(DpSgdEvent(1.3, 0.02, left + 1)), limit)
    assert steps_left(spent, Spending(event), PrivacyLimit(0.01, 1e-5)) == 0
    assert steps_left(spent, Spending(DpSgdEvent(0.0, 0.02, 1)), limit) == 0
    assert steps_left([], Spending(event), PrivacyLimit(math.inf, 1e-5)) == MAX_STEPS

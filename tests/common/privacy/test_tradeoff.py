"""An attacker's success is bounded from the proven profile, tightly, and never by a limit theorem."""

import math
from statistics import NormalDist

import pytest

from common.privacy.accounting import DpSgdEvent, loss_distribution
from common.privacy.tradeoff import PrivacyProfile, gaussian_delta, profile
from tests.reference.subsampled_gaussian import few_steps_delta
from tests.reference.subsampled_gaussian import gaussian_delta as closed_form

NORMAL = NormalDist()
RATES = (1e-3, 1e-2, 1e-1)


def of(*events: DpSgdEvent) -> PrivacyProfile:
    return profile(loss_distribution(events))


@pytest.mark.parametrize(("noise", "steps"), [(2.0, 1), (2.0, 4), (1.0, 4), (10.0, 1)])
def test_without_sampling_the_hit_rate_and_mu_are_those_of_the_gaussian(noise: float, steps: int) -> None:
    mu = math.sqrt(steps) / noise
    found = of(DpSgdEvent(noise, 1.0, steps))
    for rate in RATES:
        exact = NORMAL.cdf(mu - NORMAL.inv_cdf(1 - rate))
        assert exact <= found.hit_rate(rate) <= 1.01 * exact
    assert mu <= found.gaussian_mu(1e-5) <= 1.02 * mu


@pytest.mark.parametrize(("noise", "probability"), [(1.0, 0.1), (0.5, 0.02), (2.0, 0.5)])
def test_one_sampled_steps_hit_rate_is_that_of_the_likelihood_ratio_test(noise: float, probability: float) -> None:
    found = of(DpSgdEvent(noise, probability, 1))
    for rate in RATES:
        # Rejecting large outputs is the most powerful test, whichever of the two data sets is the hypothesis.
        cut = noise * NORMAL.inv_cdf(1 - rate)
        absent = (1 - probability) * rate + probability * NORMAL.cdf((1 - cut) / noise)
        low = _quantile(rate, noise, probability)
        present = NORMAL.cdf(low / noise)
        exact = max(absent, present)
        assert exact <= found.hit_rate(rate) + 1e-12
        assert found.hit_rate(rate) <= 1.03 * exact


def _quantile(rate: float, noise: float, probability: float) -> float:
    """The point at which the mixture's distribution function is `rate`."""
    low, high = -20 * noise, 1 + 20 * noise
    for _ in range(100):
        middle = (low + high) / 2
        below = (1 - probability) * NORMAL.cdf(middle / noise) + probability * NORMAL.cdf((middle - 1) / noise)
        low, high = (middle, high) if below < rate else (low, middle)
    return low


def test_no_test_of_a_sampled_run_beats_the_gaussian_of_mu_while_the_limit_theorems_mu_is_beaten() -> None:
    noise, probability, steps, smallest = 0.6, 0.1, 3, 1e-5
    mu = of(DpSgdEvent(noise, probability, steps)).gaussian_mu(smallest)
    limit = probability * math.sqrt(steps * math.expm1(noise**-2))  # Bu et al. 2019, corollary 3: no bound
    beaten = {mu: 0, limit: 0}
    for claim in beaten:
        last = claim * NORMAL.inv_cdf(1 - smallest) - claim**2 / 2
        for step in range(13):
            at = last * step / 12
            true = few_steps_delta(at, noise, probability, steps, nodes=400)
            beaten[claim] += true > gaussian_delta(at, claim) * (1 + 1e-6)
    assert beaten[mu] == 0
    assert beaten[limit] > 3


def test_a_long_run_is_bounded_as_well_as_a_short_one() -> None:
    found = of(DpSgdEvent(4.0, 0.001, 10_000))
    assert 0.02 < found.gaussian_mu(1e-5) < 0.04
    assert found.hit_rate(1e-2) < 0.0112
    many = of(*(DpSgdEvent(2 + 0.02 * n, 0.005, 100) for n in range(100)))
    assert 0.1 < many.gaussian_mu(1e-5) < 0.3


def test_nothing_proven_is_nothing_promised() -> None:
    for found in (of(DpSgdEvent(0.0, 0.1, 1)), profile(None)):
        assert [found.hit_rate(rate) for rate in RATES] == [1.0] * 3
        assert found.gaussian_mu(1e-5) == math.inf
    assert of(DpSgdEvent(0.3, 1.0, 100)).gaussian_mu(1e-5) == math.inf


def test_nothing_spent_gives_nothing_away() -> None:
    found = of()
    assert [found.hit_rate(rate) for rate in RATES] == pytest.approx(RATES, rel=1e-6)
    assert found.gaussian_mu(1e-5) < 1e-3


def test_hits_rise_with_false_alarms_and_with_spending() -> None:
    runs = [of(DpSgdEvent(1.2, 0.1, steps)) for steps in (1, 10, 100)]
    for found in runs:
        rates = [found.hit_rate(rate) for rate in RATES]
        assert rates == sorted(rates)
        assert all(hit >= rate for hit, rate in zip(rates, RATES, strict=True))
    for rate in RATES:
        assert [found.hit_rate(rate) for found in runs] == sorted(found.hit_rate(rate) for found in runs)
    assert [found.gaussian_mu(1e-5) for found in runs] == sorted(found.gaussian_mu(1e-5) for found in runs)


@pytest.mark.parametrize("mu", [0.1, 1.0, 3.0])
def test_the_gaussians_profile_is_its_closed_form(mu: float) -> None:
    for epsilon in (0.0, 0.5, 2.0, 6.0):
        assert gaussian_delta(epsilon, mu) == pytest.approx(float(closed_form(epsilon, 1 / mu, 1)), rel=1e-9, abs=1e-18)

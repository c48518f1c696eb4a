"""The statistics of a one-run audit, against simulations and arithmetic that share nothing with them."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from client.audit.one_run import (
    SHARES,
    Guesses,
    best_bound,
    guess,
    is_refuted,
    largest_bound,
    least_false_positive_rate,
    lower_bound,
)
from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.pld import composed
from common.privacy.tradeoff import PrivacyProfile, profile

GAUSSIAN = DpSgdEvent(noise_multiplier=1.0, sampling_probability=1.0, steps=1)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.6, 0.95])
def test_the_least_false_positive_rate_is_the_gaussians_closed_form(mu: float, rate: float) -> None:
    least = least_false_positive_rate(profile(composed(((1 / mu, 1.0, 1),))))
    exact = float(ndtr(ndtri(rate) - mu))
    assert exact - 0.003 <= least(rate) <= exact + 1e-6  # a bound from below, and nearly the truth


def test_without_a_proven_curve_nothing_is_refuted() -> None:
    assert least_false_positive_rate(PrivacyProfile(()))(0.9) == 0.0
    assert not is_refuted(Guesses(100, 100, 100), lambda _: 0.0, 0.05)


def test_perfect_privacy_is_refuted_like_fair_coins() -> None:
    """With f(a) = 1 - a the bound is on successes of fair coins, whose tail is known exactly."""
    made = 100
    least = min(c for c in range(made) if is_refuted(Guesses(c, made, made), lambda rate: rate, 0.05))
    tail = sum(math.comb(made, k) for k in range(least, made + 1)) / 2**made
    assert tail <= 0.05
    assert least <= 65  # and not much later than the exact test, which refutes from 59


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_a_private_mechanism_is_refuted_no_more_often_than_the_significance_allows(noise: float) -> None:
    rng = np.random.default_rng(1)
    training = DpSgdEvent(noise, 1.0, 1)
    least = least_false_positive_rate(profile(composed(((noise, 1.0, 1),))))
    refuted = 0
    for _ in range(200):
        included = rng.random(300) < 0.5
        scores = included + noise * rng.normal(size=300)
        refuted += is_refuted(guess(scores, included, 60), least, 0.05)
    assert refuted <= 22  # 10 are allowed on average; 23 come once in ten thousand
    assert epsilon([training], 1e-5) > 0


def test_many_canaries_show_most_of_what_a_gaussian_gives_away() -> None:
    rng = np.random.default_rng(2)
    included = rng.random(10_000) < 0.5
    bound, _ = best_bound(included + rng.normal(size=10_000), included, GAUSSIAN, 1e-5, 0.95)
    assert 0.4 * epsilon([GAUSSIAN], 1e-5) < bound <= epsilon([GAUSSIAN], 1e-5)


def test_more_right_guesses_and_more_canaries_raise_the_bound() -> None:
    bounds = [lower_bound(Guesses(right, 100, 1000), GAUSSIAN, 1e-5, 0.01) for right in (50, 70, 85, 95, 100)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0
    assert largest_bound(2000, GAUSSIAN, 1e-5, 0.95) > largest_bound(200, GAUSSIAN, 1e-5, 0.95) > 1.0


def test_the_clearest_scores_are_guessed_and_the_rest_left() -> None:
    scores = np.array([5.0, -4.0, 0.1, 3.0, -0.2, -6.0])
    included = np.array([True, False, False, True, True, True])
    assert guess(scores, included, 4) == Guesses(3, 4, 6)
    assert guess(scores, included, 6) == Guesses(3, 6, 6)


def test_the_confidence_is_shared_out_between_the_shares() -> None:
    included = np.arange(400) % 2 == 0
    bound, guesses = best_bound(included * 1.0, included, GAUSSIAN, 1e-5, 0.95)
    alone = lower_bound(Guesses(80, 80, 400), GAUSSIAN, 1e-5, 0.05 / len(SHARES))
    assert guesses == Guesses(80, 80, 400)
    assert bound == largest_bound(400, GAUSSIAN, 1e-5, 0.95) == alone
    assert bound < lower_bound(Guesses(80, 80, 400), GAUSSIAN, 1e-5, 0.05)

"""The noise that institutions add to a mean, and the epsilon against those who see nothing else."""

import math

import numpy as np
import pytest

from common.privacy.accounting import LARGEST_NOISE, DpSgdEvent, epsilon
from common.privacy.global_model import Share, alike, noise_ratio, seen_in_global_models
from common.weighting import Weighting, weights
from server.rounds.aggregation import weighted_mean
from tests.reference.subsampled_gaussian import gaussian_delta

SIZES = {"a": 256, "b": 1024, "c": 4096}
NOISE, CLIP, RATE = 1.3, 0.5, 0.25


@pytest.mark.parametrize("weighting", ["declared_units", "inverse_variance", "uniform"])
def test_the_ratio_is_that_of_the_noise_and_the_movement_that_the_hubs_mean_shows(weighting: Weighting) -> None:
    """Measured on the hub's own mean of drawn contributions, without any formula of the module."""
    rng, drawn = np.random.default_rng(1), 400_000
    shares = weights(SIZES, weighting)
    steps = {n: (NOISE * CLIP * rng.standard_normal(drawn)) / (RATE * size) for n, size in SIZES.items()}
    spread = weighted_mean(lambda n: {"w": steps[n].astype(np.float32)}, shares)["w"].std()
    for name in SIZES:
        one = {n: {"w": np.array([CLIP / (RATE * SIZES[n]) if n == name else 0.0], np.float32)} for n in SIZES}
        multiplier = spread / float(weighted_mean(one.__getitem__, shares)["w"][0])
        known = {n: Share(shares[n], NOISE * CLIP, RATE * SIZES[n]) for n in SIZES}
        assert NOISE * noise_ratio(known, name) == pytest.approx(multiplier, rel=0.01)


def test_institutions_of_equal_noise_in_the_mean_count_alike() -> None:
    for count in (1, 2, 20):
        shares = {str(n): Share(1 / count, 2.0, 64.0) for n in range(count)}
        assert noise_ratio(shares, "0") == pytest.approx(alike(count - 1))
    assert noise_ratio({"a": Share(0.5, 0.0, 64.0), "b": Share(0.5, 1.0, 64.0)}, "a") == 1.0


def test_without_sampling_epsilon_is_the_closed_form_of_the_sum_of_all_noise() -> None:
    """One step a round: a Gaussian of s sqrt(1 + h) in each, whose closed form is that of Balle and Wang."""
    seen = seen_in_global_models([(DpSgdEvent(4.0, 1.0, 1), alike(3))] * 5)
    found = epsilon(seen, 1e-5)
    assert float(gaussian_delta(found, 8.0, 5)) == pytest.approx(1e-5, rel=0.02)


def test_only_the_last_local_step_of_a_round_counts_the_others_noise() -> None:
    assert seen_in_global_models([(DpSgdEvent(2.0, 0.1, 5), 3.0), (DpSgdEvent(2.0, 0.1, 0), 3.0)]) == [
        DpSgdEvent(2.0, 0.1, 4),
        DpSgdEvent(6.0, 0.1, 1),
    ]
    event = DpSgdEvent(1.0, 0.1, 5)
    one, many = (epsilon(seen_in_global_models([(event, ratio)] * 3), 1e-5) for ratio in (1.0, 1e9))
    assert one == epsilon([event] * 3, 1e-5)
    assert epsilon([DpSgdEvent(1.0, 0.1, 12)], 1e-5) <= many < one


def test_a_ratio_of_one_changes_nothing_and_more_noise_than_an_event_can_have_is_cut() -> None:
    assert seen_in_global_models([(DpSgdEvent(2.0, 0.1, 1), 1.0)]) == [DpSgdEvent(2.0, 0.1, 1)]
    assert seen_in_global_models([(DpSgdEvent(2.0, 0.1, 1), 1e12)]) == [DpSgdEvent(LARGEST_NOISE, 0.1, 1)]
    assert math.isinf(epsilon(seen_in_global_models([(DpSgdEvent(0.0, 0.1, 1), 5.0)]), 1e-5))

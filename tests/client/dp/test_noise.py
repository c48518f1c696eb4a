"""The noise is what the accountant assumes, and nobody can draw it again."""

import copy
import math
import os
import pickle
import random

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from client.dp.noise import FixedNoise, SystemNoise, rounded_normal
from common.errors import FedfinError

N = 200_000
S = 2.0**20
SOURCES = [SystemNoise, lambda: FixedNoise(b"test")]


@pytest.mark.parametrize("make", SOURCES)
def test_normal_values_follow_the_normal_distribution(make):
    values = make().rounded_normal(N, S)
    assert values.dtype == np.int64
    values = values / S
    # Critical value of Kolmogorov-Smirnov at p = 1e-6; a wrong run of this test comes once in a million.
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / N)
    assert stats.kstest(values, "norm").statistic < critical


@pytest.mark.parametrize("wrong", [2 / 3, 0.97, 1.03, 3 / 2])
def test_the_distribution_test_would_reject_a_wrong_scale(wrong):
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / N)
    assert stats.kstest(SystemNoise().rounded_normal(N, S) / S * wrong, "norm").statistic > critical


def test_box_muller_pairs_are_uncorrelated():
    values = SystemNoise().rounded_normal(N, S) / S
    half = N // 2
    for left, right in [(values[:half], values[half:]), (values[:-1], values[1:])]:
        assert abs(np.corrcoef(left, right)[0, 1]) < 5.5 / math.sqrt(len(left))
        assert abs(np.corrcoef(left**2, right**2)[0, 1]) < 5.5 / math.sqrt(len(left))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_any_number_of_values_can_be_drawn(n):
    values = SystemNoise().rounded_normal(n, S)
    assert values.shape == (n,)
    assert values.dtype == np.int64


@pytest.mark.parametrize("q", [0.001, 0.1, 1 / 3, 0.9])
def test_inclusion_is_binomial_with_the_probability_that_is_accounted(q):
    drawn = int(SystemNoise().uniform_mask(N, q).sum())
    assert stats.binomtest(drawn, N, q).pvalue > 1e-6


def test_probabilities_zero_and_one_are_exact():
    source = SystemNoise()
    assert not source.uniform_mask(10_000, 0.0).any()
    assert source.uniform_mask(10_000, 1.0).all()


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_probability_outside_zero_to_one_is_refused(q):
    with pytest.raises(ValueError, match="between 0 and 1"):
        SystemNoise().uniform_mask(3, q)


def test_seeding_every_generator_does_not_repeat_system_noise():
    def draw():
        random.seed(42)
        np.random.seed(42)
        torch.manual_seed(42)
        source = SystemNoise()
        return source.rounded_normal(100, 2.0**40), source.uniform_mask(100, 0.5)

    (first, first_mask), (second, second_mask) = draw(), draw()
    assert not np.isin(first, second).any()
    assert (first_mask != second_mask).any()


def test_one_source_never_repeats_itself():
    source = FixedNoise(b"x")
    assert not np.isin(source.rounded_normal(1000, 2.0**40), source.rounded_normal(1000, 2.0**40)).any()


def test_fixed_noise_repeats_by_seed_and_differs_between_seeds():
    assert (FixedNoise(b"a").rounded_normal(50, 2.0**40) == FixedNoise(b"a").rounded_normal(50, 2.0**40)).all()
    assert not np.isin(FixedNoise(b"a").rounded_normal(50, 2.0**40), FixedNoise(b"b").rounded_normal(50, 2.0**40)).any()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("make", SOURCES)
def test_a_source_can_neither_be_copied_nor_stored(make, copier):
    with pytest.raises(FedfinError, match="cannot be copied or stored"):
        copier(make())


def test_a_forked_process_draws_other_noise_than_its_parent(monkeypatch):
    source = SystemNoise()
    source.rounded_normal(1, S)
    key_before = source._stream
    monkeypatch.setattr(os, "getpid", lambda: -1)
    source.rounded_normal(1, S)
    assert source._stream is not key_before


def uniform(words, high, low):
    return (mpmath.mpf((int(words[high]) << 64) + int(words[low])) + mpmath.mpf(1) / 2) / mpmath.mpf(2) ** 128


def exact(words, deviation, sine):
    """Box-Muller in 80 digits, rounded; and how far the number is from the border between two integers."""
    with mpmath.workdps(80):
        wave = (mpmath.sin if sine else mpmath.cos)(2 * mpmath.pi * uniform(words, 2, 3))
        value = mpmath.mpf(deviation) * mpmath.sqrt(-2 * mpmath.log(uniform(words, 0, 1))) * wave
        nearest = mpmath.nint(value)
        return int(nearest), float(abs(abs(value - nearest) - mpmath.mpf(1) / 2))


EDGES = [0, 1, 2**63, 2**64 - 1, 2**62, 3 * 2**62, 2**61, 2**53 + 1, 2**11 - 1]


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.0**20 / 3, 2.0**30, 2.0**40])
def test_every_number_is_the_rounded_normal_of_its_words(deviation):
    random = np.frombuffer(np.random.default_rng(5).bytes(4 * 8 * 150), dtype="<u8").reshape(4, 150)
    edges = np.array(
        [[a, b, c, d] for a in EDGES[:4] for b in (0, 2**64 - 1) for c in EDGES for d in (0, 2**63)], dtype=object
    ).T
    words = np.concatenate([random, edges.astype(np.uint64)], axis=1)
    drawn = rounded_normal(words, deviation)
    for place in range(words.shape[1]):
        for sine in (False, True):
            nearest, border = exact(words[:, place], deviation, sine)
            assert drawn[place + sine * words.shape[1]] == nearest or border < 1e-20


def test_numbers_that_float64_cannot_decide_are_decided_all_the_same():
    """Words whose normal number is within 2^-60 of a border, found by solving for the angle."""
    with mpmath.workdps(80):
        for border in (0.5, 1.5, -2.5, 1234567.5):
            deviation = mpmath.mpf(2) ** 20
            radius = mpmath.sqrt(-2 * mpmath.log(uniform([2**62, 12345], 0, 1)))
            turn = mpmath.acos(mpmath.mpf(border) / (deviation * radius)) / (2 * mpmath.pi)
            whole = int(turn * mpmath.mpf(2) ** 128)
            for nudge in (-1000, 0, 1000):  # of 2^-128 turns
                angle = whole + nudge
                words = np.array([[2**62], [12345], [angle >> 64], [angle & (2**64 - 1)]], dtype=np.uint64)
                expected, distance = exact(words[:, 0], 2.0**20, sine=False)
                assert distance < 2**-60
                assert rounded_normal(words, 2.0**20)[0] == expected


def masses(deviation):
    """The probability of each integer under round(N(0, deviation^2)), by the error function alone, in 50 digits."""
    with mpmath.workdps(50):
        edges = [mpmath.ncdf((k - mpmath.mpf(1) / 2) / deviation) for k in range(-REACH, REACH + 2)]
        return np.array([edges[i + 1] - edges[i] for i in range(len(edges) - 1)])


REACH = 140


def hockey_stick(one, other, epsilon):
    return sum(max(p - mpmath.exp(epsilon) * q, mpmath.mpf(0)) for p, q in zip(one, other, strict=True))


def gaussian_delta(mu, epsilon):
    return mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize("deviation", [0.4, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_over_its_probability_masses_the_noise_is_at_least_as_private_as_the_gaussian(deviation, shift):
    with mpmath.workdps(50):
        mass = list(masses(deviation))
        moved = [mpmath.mpf(0)] * shift + mass[:-shift]
        for epsilon in (0.0, 0.1, 0.5, 1.0, 3.0):
            bound = gaussian_delta(mpmath.mpf(shift) / deviation, mpmath.mpf(epsilon))
            assert hockey_stick(mass, moved, epsilon) <= bound + mpmath.mpf("1e-30")
            assert hockey_stick(moved, mass, epsilon) <= bound + mpmath.mpf("1e-30")


@pytest.mark.parametrize("deviation", [1.0, 2.0])
def test_two_coordinates_together_are_at_least_as_private_as_the_gaussian_of_their_length(deviation):
    """A unit that moves one coordinate by 3 and another by 4: the masses of both, against a distance of 5."""
    with mpmath.workdps(30):
        mass = [float(m) for m in masses(deviation)][REACH - 30 : REACH + 31]
        joint = np.outer(mass, mass)
        moved = np.zeros_like(joint)
        moved[3:, 4:] = joint[:-3, :-4]
        for epsilon in (0.0, 0.5, 2.0):
            found = np.maximum(joint - math.exp(epsilon) * moved, 0).sum()
            assert found <= float(gaussian_delta(mpmath.mpf(5) / deviation, mpmath.mpf(epsilon))) + 1e-12


def test_the_masses_that_are_drawn_are_those():
    drawn = SystemNoise().rounded_normal(400_000, 2.0)
    counts = np.bincount(drawn + REACH, minlength=2 * REACH + 1)[REACH - 7 : REACH + 8]
    expected = np.array([float(m) for m in masses(2.0)])[REACH - 7 : REACH + 8]
    expected = expected / expected.sum() * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-6


def test_as_many_words_are_drawn_whatever_they_are(monkeypatch):
    """No value is rejected and drawn again: the work does not depend on the noise."""
    taken: list[int] = []
    kept = FixedNoise._words

    def counted(self, n):
        taken.append(n)
        return kept(self, n)

    monkeypatch.setattr(FixedNoise, "_words", counted)
    for seed in range(50):
        FixedNoise(bytes([seed])).rounded_normal(1001, 2.0**20)
    assert set(taken) == {4 * 501}


@pytest.mark.parametrize("deviation", [-1.0, math.nan, 2.0**41])
def test_a_deviation_that_float64_cannot_serve_is_refused(deviation):
    with pytest.raises(ValueError, match="deviation"):
        SystemNoise().rounded_normal(3, deviation)

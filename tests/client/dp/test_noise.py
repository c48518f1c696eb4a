"""The noise is the one that the accountant assumes, and nobody can draw it again."""

import copy
import math
import os
import pickle
import random

import numpy as np
import pytest
import torch
from scipy import stats

from client.dp.noise import FixedNoise, SystemNoise
from common.errors import FedfinError

N = 200_000
SOURCES = [SystemNoise, lambda: FixedNoise(b"test")]


@pytest.mark.parametrize("make", SOURCES)
def test_normal_values_follow_the_normal_distribution(make):
    values = make().normal(N)
    assert values.dtype == np.float64
    # Critical value of Kolmogorov-Smirnov at p = 1e-6. A wrong run of this test comes once in a million.
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / N)
    assert stats.kstest(values, "norm").statistic < critical


@pytest.mark.parametrize("wrong", [2 / 3, 0.97, 1.03, 3 / 2])
def test_the_distribution_test_would_reject_a_wrong_scale(wrong):
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / N)
    assert stats.kstest(SystemNoise().normal(N) * wrong, "norm").statistic > critical


def test_box_muller_pairs_are_uncorrelated():
    values = SystemNoise().normal(N)
    half = N // 2
    for left, right in [(values[:half], values[half:]), (values[:-1], values[1:])]:
        assert abs(np.corrcoef(left, right)[0, 1]) < 5.5 / math.sqrt(len(left))
        assert abs(np.corrcoef(left**2, right**2)[0, 1]) < 5.5 / math.sqrt(len(left))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_any_number_of_values_can_be_drawn(n):
    values = SystemNoise().normal(n)
    assert values.shape == (n,)
    assert np.isfinite(values).all()


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
        return source.normal(100), source.uniform_mask(100, 0.5)

    (first, first_mask), (second, second_mask) = draw(), draw()
    assert not np.isin(first, second).any()
    assert (first_mask != second_mask).any()


def test_one_source_never_repeats_itself():
    source = FixedNoise(b"x")
    assert not np.isin(source.normal(1000), source.normal(1000)).any()


def test_fixed_noise_repeats_by_seed_and_differs_between_seeds():
    assert (FixedNoise(b"a").normal(50) == FixedNoise(b"a").normal(50)).all()
    assert not np.isin(FixedNoise(b"a").normal(50), FixedNoise(b"b").normal(50)).any()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("make", SOURCES)
def test_a_source_can_neither_be_copied_nor_stored(make, copier):
    with pytest.raises(FedfinError, match="cannot be copied or stored"):
        copier(make())


def test_a_forked_process_draws_other_noise_than_its_parent(monkeypatch):
    source = SystemNoise()
    source.normal(1)
    key_before = source._stream
    monkeypatch.setattr(os, "getpid", lambda: -1)
    source.normal(1)
    assert source._stream is not key_before

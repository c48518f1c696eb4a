"""The label-shift correction against the ratio of shares that Bayes' rule gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.personalisation.prior import log_ratios


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def test_a_model_that_is_right_for_other_shares_gets_the_ratio_of_the_shares() -> None:
    """Three normal classes: the posterior under shared shares, corrected, is the posterior under own shares."""
    draw = np.random.default_rng(1)
    shared, own = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    labels = draw.choice(3, size=40_000, p=own)
    points = draw.normal(labels * 1.5)
    likelihood = -0.5 * (points[:, None] - np.arange(3) * 1.5) ** 2
    bias = log_ratios(likelihood + np.log(shared), labels)
    expected = np.log(own / shared)
    np.testing.assert_allclose(bias, expected - expected.mean(), atol=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_the_mean_corrected_prediction_equals_the_own_label_shares(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(scale=2, size=(200, count)), draw.integers(0, count, 200)
    shares = (np.bincount(labels, minlength=count) + 0.5) / (200 + 0.5 * count)
    mean = softmax(logits + log_ratios(logits, labels)).mean(axis=0)
    np.testing.assert_allclose(mean, shares, atol=1e-4)


def test_a_label_that_no_row_has_keeps_a_small_share_and_every_ratio_is_finite() -> None:
    bias = log_ratios(np.zeros((50, 3)), np.zeros(50, np.int64))
    assert np.isfinite(bias).all()
    assert bias[0] > bias[1] == pytest.approx(bias[2])

"""The statistics of a one-run audit, against exact arithmetic that shares nothing with them."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.audit.one_run import SHARES, Guesses, best_bound, guess, largest_bound, lower_bound, p_value


def exact_p_value(right: int, made: int, canaries: int, epsilon: float, delta: float) -> mpmath.mpf:
    """Theorem 5.2 of arXiv 2305.08846 term by term, in 60 digits. Alpha over every i up to the number of canaries."""
    with mpmath.workdps(60):
        p = mpmath.exp(epsilon) / (1 + mpmath.exp(epsilon))
        mass = [mpmath.binomial(made, k) * p**k * (1 - p) ** (made - k) for k in range(made + 1)]
        beta = mpmath.fsum(mass[right:])
        alpha = max(
            2 * mpmath.fsum(mass[max(0, right - i) : right]) / i for i in range(1, canaries + 1)
        )  # P[right > W >= right - i]
        return min(mpmath.mpf(1), beta + delta * canaries * alpha)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60).flatmap(lambda made: st.tuples(st.integers(0, made), st.just(made))),
    st.integers(0, 20),
    st.floats(0, 8),
    st.sampled_from([0.0, 1e-6, 1e-3]),
)
def test_the_p_value_is_the_theorems(counts: tuple[int, int], silent: int, epsilon: float, delta: float) -> None:
    right, made = counts
    found = p_value(Guesses(right, made, made + silent), epsilon, delta)
    assert found == pytest.approx(float(exact_p_value(right, made, made + silent, epsilon, delta)), rel=1e-9, abs=1e-15)


def test_without_delta_the_p_value_is_a_binomial_tail_in_whole_fractions() -> None:
    p = Fraction(3, 4)  # e^epsilon / (1 + e^epsilon) at epsilon = ln 3
    tail = sum(Fraction(math.comb(20, k)) * p**k * (1 - p) ** (20 - k) for k in range(17, 21))
    assert p_value(Guesses(17, 20, 20), math.log(3), 0.0) == pytest.approx(float(tail), rel=1e-12)


@pytest.mark.parametrize(("made", "confidence"), [(10, 0.95), (100, 0.95), (100, 0.99), (5000, 0.95)])
def test_all_right_is_the_closed_form(made: int, confidence: float) -> None:
    p = (1 - confidence) ** (1 / made)
    assert lower_bound(Guesses(made, made, made), 0.0, confidence) == pytest.approx(math.log(p / (1 - p)), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200).flatmap(lambda made: st.tuples(st.integers(0, made), st.just(made))))
def test_the_bound_is_where_the_p_value_meets_the_confidence(counts: tuple[int, int]) -> None:
    guesses = Guesses(*counts, 300)
    bound = lower_bound(guesses, 1e-6, 0.95)
    if bound == 0:
        assert p_value(guesses, 0.05, 1e-6) > 0.05
    else:
        assert p_value(guesses, bound, 1e-6) <= 0.05 < p_value(guesses, bound + 1e-6, 1e-6)


def test_guessing_blindly_refutes_nothing_and_a_large_delta_excuses_much() -> None:
    assert lower_bound(Guesses(50, 100, 100), 0.0, 0.95) == 0.0
    assert lower_bound(Guesses(100, 100, 100), 1e-3, 0.95) < lower_bound(Guesses(100, 100, 100), 0.0, 0.95)


def test_the_clearest_scores_are_guessed_and_the_rest_left() -> None:
    scores = np.array([5.0, -4.0, 0.1, 3.0, -0.2, -6.0])
    included = np.array([True, False, False, True, True, True])
    assert guess(scores, included, 4) == Guesses(3, 4, 6)
    assert guess(scores, included, 6) == Guesses(3, 6, 6)


def randomised_response(rng: np.random.Generator, epsilon: float, canaries: int) -> float:
    """The audit's result for a mechanism that is exactly epsilon-private: it tells each coin, or the other side."""
    included = rng.random(canaries) < 0.5
    told = np.where(rng.random(canaries) < math.exp(epsilon) / (1 + math.exp(epsilon)), included, ~included)
    return best_bound(told + rng.random(canaries) / 2, included, 0.0, 0.95)[0]


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_a_private_mechanism_is_refuted_no_more_often_than_the_confidence_allows(epsilon: float) -> None:
    rng = np.random.default_rng(1)
    bounds = [randomised_response(rng, epsilon, 400) for _ in range(60)]
    assert sum(bound > epsilon for bound in bounds) <= 10  # 3 are allowed on average. 11 come once in a thousand
    assert np.median(bounds) > epsilon - 0.7


def test_the_confidence_is_shared_out_between_the_shares() -> None:
    included = np.arange(400) % 2 == 0
    bound, guesses = best_bound(included * 1.0, included, 0.0, 0.95)
    p = (0.05 / len(SHARES)) ** (1 / 360)
    assert guesses == Guesses(360, 360, 400)
    assert bound == largest_bound(400, 0.0, 0.95) == pytest.approx(math.log(p / (1 - p)), rel=1e-6)

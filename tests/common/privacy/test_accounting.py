"""Epsilon is never below an independent definition of it, and hardly above."""

import doctest
import importlib.util
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ConfigurationError, FedfinError, LedgerError
from common.privacy import accounting, pld
from common.privacy.accounting import (
    DpSgdEvent,
    PrivacyLimit,
    calibrate,
    epsilon,
    epsilon_rdp,
    loss_distribution,
    steps_by_mechanism,
)
from common.privacy.pld import PrivacyLossDistribution

ROOT = Path(__file__).parents[3]
_SPEC = importlib.util.spec_from_file_location("reference", ROOT / "tests/reference/subsampled_gaussian.py")
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)


def assert_just_above(true_delta, delta, above=0.004):
    """`true_delta(e)` is the definition. At the claimed epsilon it holds. A little below it does not."""

    def check(claimed):
        assert true_delta(claimed) <= delta * (1 + 1e-9)
        assert true_delta(claimed * (1 - above)) > delta

    return check


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize(("noise", "steps"), [(0.5, 1), (1.0, 1), (1.0, 10), (4.0, 100), (30.0, 1000), (0.3, 3)])
def test_without_sampling_epsilon_is_the_closed_form_of_the_gaussian(noise, steps, delta):
    claimed = epsilon([DpSgdEvent(noise, 1.0, steps)], delta)
    assert_just_above(lambda e: reference.gaussian_delta(e, noise, steps), delta)(claimed)


@pytest.mark.parametrize("delta", [1e-3, 1e-6])
@pytest.mark.parametrize(("noise", "probability"), [(0.5, 0.01), (1.0, 0.1), (0.7, 0.5), (2.0, 0.25), (0.4, 0.9)])
def test_one_sampled_step_is_the_integral_that_defines_it(noise, probability, delta):
    claimed = epsilon([DpSgdEvent(noise, probability, 1)], delta)
    assert_just_above(lambda e: reference.one_step_delta(e, noise, probability), delta)(claimed)


@pytest.mark.parametrize("group", [2, 5, 10])
@pytest.mark.parametrize(("noise", "probability"), [(1.0, 0.1), (0.7, 0.5), (4.0, 0.01)])
def test_a_group_that_comes_or_goes_together_is_the_integral_over_how_many_of_it_are_drawn(noise, probability, group):
    claimed = epsilon([DpSgdEvent(noise, probability, 1)], 1e-5, group)
    assert_just_above(lambda e: reference.one_step_delta(e, noise, probability, group), 1e-5)(claimed)


@pytest.mark.parametrize(("noise", "steps", "group"), [(4.0, 3, 2), (10.0, 20, 10)])
def test_without_sampling_a_group_is_one_unit_of_its_size(noise, steps, group):
    claimed = epsilon([DpSgdEvent(noise, 1.0, steps)], 1e-5, group)
    assert_just_above(lambda e: reference.gaussian_delta(e, noise / group, steps), 1e-5)(claimed)


@pytest.mark.parametrize("group", [2, 5])
def test_a_group_costs_no_more_than_the_chain_of_its_members_would(group):
    events = [DpSgdEvent(2.0, 0.02, 100), DpSgdEvent(3.0, 0.1, 10)]
    losses = loss_distribution(events)
    # (e, d) for one is (k e, d (e^ke - 1) / (e^e - 1)) for k, at every e.
    chains = [group * e for e in np.linspace(0.3, 4, 200)
              if losses.delta(e) * math.expm1(group * e) / math.expm1(e) <= 1e-5]  # fmt: skip
    assert epsilon(events, 1e-5) < epsilon(events, 1e-5, group) <= min(chains)


@pytest.mark.parametrize(("noise", "probability"), [(0.3, 0.001), (1.0, 0.01), (0.6, 0.2), (2.0, 0.5), (8.0, 0.9)])
def test_one_steps_divergences_are_those_of_the_library_to_rounding(noise, probability):
    width = 2.0**-7
    ours = PrivacyLossDistribution(pld._step(noise, probability, 1, width))
    library = privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=probability, value_discretization_interval=width
    )
    for each in (0.0, 0.01, 0.3, 1.0, 3.0):
        assert ours.delta(each) == pytest.approx(library.get_delta_for_epsilon(each), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("noise", "probability", "steps"), [(1.0, 0.2, 2), (0.6, 0.1, 3), (1.5, 0.5, 3)])
def test_few_steps_are_the_integral_over_all_their_outputs(noise, probability, steps):
    for delta in (1e-3, 1e-5):
        claimed = epsilon([DpSgdEvent(noise, probability, steps)], delta)
        assert_just_above(lambda e: reference.few_steps_delta(e, noise, probability, steps), delta)(claimed)


def test_the_reference_agrees_with_itself():
    one, few = reference.one_step_delta(0.7, 1.0, 0.2), reference.few_steps_delta(0.7, 1.0, 0.2, 1)
    assert float(one) == pytest.approx(few, rel=1e-9)
    closed, nearly = reference.gaussian_delta(1.5, 2.0, 3), reference.few_steps_delta(1.5, 2.0, 1 - 1e-12, 3)
    assert float(closed) == pytest.approx(nearly, rel=1e-6)


@pytest.mark.parametrize(
    ("noise", "probability", "steps", "finest"),
    # The last column: the same distribution at a grid of 1e-5 to 1e-4, computed once with the library alone.
    [(1.0, 0.01, 1000, 1.8282), (0.5, 0.01, 100, 6.4762), (2.0, 0.1, 1000, 8.2793), (1.0, 0.05, 1000, 10.9866)],
)
def test_the_chosen_grid_costs_at_most_a_thousandth_of_epsilon(noise, probability, steps, finest):
    assert finest * 0.9999 <= epsilon([DpSgdEvent(noise, probability, steps)], 1e-5) <= finest * 1.0012


@pytest.mark.parametrize(
    ("noise", "probability", "steps"), [(1.0, 0.01, 1000), (1.56, 0.25, 100), (4.0, 0.001, 10_000)]
)
def test_renyi_is_an_upper_bound_of_the_same_size(noise, probability, steps):
    events = [DpSgdEvent(noise, probability, steps)]
    assert 1 <= epsilon_rdp(events, 1e-5) / epsilon(events, 1e-5) < 2.1


@pytest.mark.parametrize(
    ("noise", "probability", "steps", "published"),
    [
        (4.0, 0.01, 10_000, 1.26),  # Abadi et al. 2016, section 3.2: the moments accountant
        (1.3, 256 / 60_000, 3516, 1.19),  # the three lines of the table in TensorFlow Privacy's MNIST tutorial, by RDP
        (1.1, 256 / 60_000, 14_063, 3.01),
        (0.7, 256 / 60_000, 10_547, 7.10),
    ],
)
def test_published_moments_bounds_hold_and_are_looser(noise, probability, steps, published):
    events = [DpSgdEvent(noise, probability, steps)]
    assert 0.7 * published < epsilon(events, 1e-5) < epsilon_rdp(events, 1e-5) < published


def test_the_analytic_gaussians_published_noise_is_found():
    # Balle and Wang 2018, algorithm 1, at epsilon 1, delta 1e-5 and sensitivity 1.
    assert 3.7306 <= calibrate(1.0, 1e-5, 1.0, 1) <= 3.7306 * 1.001


def test_epsilon_is_a_fold_that_knows_no_order_and_no_rounds():
    a, b = DpSgdEvent(1.2, 0.1, 30), DpSgdEvent(0.9, 0.05, 7)
    assert steps_by_mechanism([a, b, a]) == {(1.2, 0.1): 60, (0.9, 0.05): 7}
    whole = epsilon([DpSgdEvent(1.2, 0.1, 60), b], 1e-5)
    assert epsilon([a, b, a], 1e-5) == whole
    assert epsilon([b, a, a], 1e-5) == pytest.approx(whole, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.4, 5),
    st.floats(0.001, 1),
    st.integers(1, 300),
    st.floats(0.4, 5),
    st.floats(0.001, 1),
    st.integers(1, 300),
)
def test_more_training_never_costs_less(noise, probability, steps, noise2, probability2, steps2):
    events = [DpSgdEvent(noise, probability, steps)]
    before, after = epsilon(events, 1e-5), epsilon([*events, DpSgdEvent(noise2, probability2, steps2)], 1e-5)
    assert after >= before * (1 - 1.5e-3)


def test_edges_of_epsilon():
    assert epsilon([], 1e-5) == 0.0
    assert epsilon([DpSgdEvent(1.0, 0.0, 100), DpSgdEvent(1.0, 0.5, 0)], 1e-5) == 0.0
    assert epsilon([DpSgdEvent(0.0, 0.0, 5)], 1e-5) == 0.0
    assert epsilon([DpSgdEvent(0.0, 0.1, 1)], 1e-5) == math.inf
    assert epsilon([DpSgdEvent(0.0, 1.0, 1), DpSgdEvent(1.0, 1.0, 1)], 1e-5) == math.inf
    assert epsilon([DpSgdEvent(1e-4, 1.0, 1)], 1e-5) == math.inf
    for noise in (1e-4, 1e-200, 5e-324):
        assert epsilon([DpSgdEvent(noise, 1.0, 1), DpSgdEvent(1.0, 1.0, 1)], 1e-5) == math.inf
        assert epsilon([DpSgdEvent(noise, 0.5, 1)], 1e-5) == math.inf
    assert 0 <= epsilon([DpSgdEvent(1e6, 1.0, 1), DpSgdEvent(1e6, 0.5, 9)], 1e-9) < 1e-3
    assert epsilon_rdp([], 1e-5) == 0.0
    assert epsilon_rdp([DpSgdEvent(0.0, 0.1, 1)], 1e-5) == math.inf
    vast = epsilon([DpSgdEvent(1.0, 1.0, 2000)], 1e-5)
    assert 500 < vast < math.inf
    assert_just_above(lambda e: reference.gaussian_delta(e, 1.0, 2000), 1e-5)(vast)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan, math.inf])
def test_an_impossible_delta_is_refused(delta):
    with pytest.raises(ConfigurationError, match="group"):
        epsilon([], 1e-5, 0)
    for call in (lambda: epsilon([], delta), lambda: epsilon_rdp([], delta), lambda: PrivacyLimit(1.0, delta)):
        with pytest.raises(ConfigurationError, match="delta"):
            call()


@pytest.mark.parametrize(
    "values",
    [(-1.0, 0.1, 1), (math.nan, 0.1, 1), (math.inf, 0.1, 1), (1.1e6, 0.1, 1), ("1", 0.1, 1), (True, 0.1, 1),
     (1.0, 1.1, 1), (1.0, -0.1, 1), (1.0, math.nan, 1), (1.0, 0.1, -1), (1.0, 0.1, 1.0), (1.0, 0.1, True),
     (1.0, 0.1, 10**9)],
)  # fmt: skip
def test_an_impossible_event_is_refused(values):
    with pytest.raises(LedgerError, match="privacy event"):
        DpSgdEvent(*values)


@given(st.floats(0, 1e6), st.floats(0, 1), st.integers(0, 10**6))
def test_an_event_survives_json_bit_for_bit(noise, probability, steps):
    event = DpSgdEvent(noise, probability, steps)
    assert DpSgdEvent.from_json(event.to_json()) == event


@pytest.mark.parametrize(
    "fields",
    [{}, [], None, {"kind": "laplace"}, DpSgdEvent(1, 0.1, 1).to_json() | {"kind": "dp_sgd_2"},
     DpSgdEvent(1, 0.1, 1).to_json() | {"extra": 1}],
)  # fmt: skip
def test_an_event_of_unknown_kind_is_an_error_and_never_skipped(fields):
    with pytest.raises(LedgerError, match="unknown kind"):
        DpSgdEvent.from_json(fields)


@pytest.mark.parametrize(
    ("target", "delta", "probability", "steps"),
    [
        (3.0, 1e-5, 0.02, 2000),
        (8.0, 1e-4, 0.25, 100),
        (0.5, 1e-6, 0.01, 50),
        (1.0, 1e-5, 1.0, 10),
        (40.0, 1e-3, 0.1, 5),
    ],
)
def test_calibrated_noise_keeps_the_target_and_one_two_hundredth_less_breaks_it(target, delta, probability, steps):
    noise = calibrate(target, delta, probability, steps)
    assert epsilon([DpSgdEvent(noise, probability, steps)], delta) <= target
    assert epsilon([DpSgdEvent(noise * 0.995, probability, steps)], delta) > target


@pytest.mark.parametrize("delta", [1e-3, 1e-9])
def test_calibrated_noise_meets_the_target_at_the_delta_that_is_asked_for(delta):
    """By the closed form: a smaller delta needs more noise, a larger one less."""
    assert 0.8 * delta <= reference.gaussian_delta(1.0, calibrate(1.0, delta, 1.0, 10), 10) <= delta


def test_calibrated_noise_keeps_the_target_by_the_closed_form_too():
    assert reference.gaussian_delta(1.0, calibrate(1.0, 1e-5, 1.0, 10), 10) <= 1e-5


def test_calibration_refuses_what_cannot_be():
    for values in [
        (0.0, 1e-5, 0.1, 1),
        (math.nan, 1e-5, 0.1, 1),
        (1.0, 0.0, 0.1, 1),
        (1.0, 1e-5, 0.0, 1),
        (1.0, 1e-5, 0.1, 0),
    ]:
        with pytest.raises(ConfigurationError):
            calibrate(*values)
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        calibrate(1e-9, 1e-9, 1.0, 1_000_000)
    assert calibrate(1e4, 1e-5, 0.01, 1) == pytest.approx(0.05, rel=2e-3)


def test_rounds_of_one_setting_cost_milliseconds_and_a_long_ledger_under_a_second():
    epsilon([DpSgdEvent(1.3, 0.05, 10)], 1e-5)
    start = time.process_time()
    for rounds in range(2, 52):
        epsilon([DpSgdEvent(1.3, 0.05, 10)] * rounds, 1e-5)
    assert (time.process_time() - start) / 50 < 0.05
    ledger = [DpSgdEvent(0.6 + 0.024 * i, 0.005 + 0.00195 * (i * 37 % 100), 100) for i in range(100)]
    start = time.process_time()
    assert math.isfinite(epsilon(ledger, 1e-5))
    # Nothing of it was computed before: about .5 s. Twice that is left to slower machines.
    assert time.process_time() - start < 1.5


def test_importing_it_loads_no_numerical_library():
    code = "import sys, common.privacy.accounting, common.privacy.ledger\n"
    code += "print({'torch', 'scipy', 'dp_accounting'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_numbers_in_its_docstring_are_true():
    assert doctest.testmod(accounting).failed == 0


def test_values_of_other_types_are_one_line() -> None:
    event = DpSgdEvent(1.0, 0.1, 10)
    for call in (
        lambda: epsilon([event], "1e-5"),
        lambda: epsilon([(1.0, 0.1, 10)], 1e-5),  # type: ignore[list-item]
        lambda: calibrate("3", 1e-5, 0.1, 10),
        lambda: calibrate(3.0, 1e-5, "0.1", 10),
        lambda: calibrate(3.0, 1e-5, 0.1, 10.5),
        lambda: PrivacyLimit("8", 1e-5),
    ):
        with pytest.raises(FedfinError) as caught:
            call()
        assert "\n" not in str(caught.value)

"""No sum passes the modulus, and the sum of rounded normal numbers is the Gaussian mechanism and a random rounding."""

import math

import numpy as np
import pytest

from client.dp.grid import Grid
from common.errors import ConfigurationError
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import alone
from common.secure_aggregation.sums import SMOOTH, TAIL, SumRange, grid_step, signed


@pytest.mark.parametrize("norm", [1e-6, 0.3, 0.5, 1.0, 4.0, 1e6])
def test_the_step_is_that_of_the_gradients(norm: float) -> None:
    assert grid_step(norm) == Grid(norm).step


@pytest.mark.parametrize(("bits", "institutions", "deviation"), [(32, 2, 8.0), (32, 50, 2.0**19), (64, 1000, 2.0**40)])
def test_the_largest_numbers_and_noise_of_all_stay_below_half_the_modulus(
    bits: int, institutions: int, deviation: float
) -> None:
    found = SumRange.of(bits, institutions, deviation)
    assert institutions * (found.largest + math.ceil(TAIL * deviation)) < 2 ** (bits - 1)
    # One step more for each would not fit.
    assert institutions * (found.largest + 1 + math.ceil(TAIL * deviation)) >= 2 ** (bits - 1) - 1


def test_sums_get_the_width_that_they_need() -> None:
    assert SumRange.narrowest(20, 2.0**19, 128 * 2**19).bits == 32
    assert SumRange.narrowest(6, 2.0**19, 2048 * 2**19).bits == 64
    assert SumRange.narrowest(1000, 2.0**19, 2**20).bits == 64


def test_noise_too_small_for_the_theorem_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ask for more noise"):
        SumRange.of(32, 4, SMOOTH / 2)
    with pytest.raises(ConfigurationError, match="use 32 or 64"):
        SumRange.of(16, 4, SMOOTH)


def test_holding_a_sum_to_the_range_makes_no_difference_longer() -> None:
    draw = np.random.default_rng(1)
    one = draw.integers(-1000, 1000, (200, 30))
    two = one + draw.integers(-50, 50, (200, 30))
    held = SumRange(32, 300)
    assert (np.linalg.norm(held.hold(one) - held.hold(two), axis=1) <= np.linalg.norm(one - two, axis=1)).all()


@pytest.mark.parametrize("bits", [32, 64])
def test_remainders_are_read_as_signed_numbers(bits: int) -> None:
    values = np.array([0, -1, 5, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1], dtype=np.int64)
    assert signed(values.astype(SumRange(bits, 1).dtype)).tolist() == values.tolist()


def rounded(deviation: float, reach: int) -> np.ndarray:
    """Probabilities of round(N(0, s^2)) from -reach to reach, by the normal distribution function."""
    cdf = [0.5 * math.erfc(-(k - 0.5) / deviation / math.sqrt(2)) for k in range(-reach, reach + 2)]
    return np.diff(cdf)


def randomly_rounded(deviation: float, honest: int, reach: int) -> np.ndarray:
    """Probabilities of G = N(0, h s^2) rounded to k with probability B(k - G), by a fine sum over G and h uniforms."""
    fine = 64
    x = np.arange(-reach * fine, reach * fine + 1) / fine
    density = np.exp(-0.5 * x**2 / (honest * deviation**2)) / math.sqrt(2 * math.pi * honest) / deviation
    # A box has half weights at its ends, which is the trapezoidal rule.
    box = np.ones(fine + 1) / fine
    box[[0, -1]] /= 2
    for _ in range(honest):
        density = np.convolve(density, box, mode="same")
    return density[::fine]


@pytest.mark.parametrize("honest", [2, 4])
def test_a_sum_of_rounded_normal_numbers_is_a_gaussian_that_is_rounded_at_random(honest: int) -> None:
    for deviation, alike in ((SMOOTH / 4, True), (0.2, False)):
        one, reach = rounded(deviation, 40), 40
        total = one
        for _ in range(honest - 1):
            total = np.convolve(total, one, mode="same")
        distance = 0.5 * np.abs(total - randomly_rounded(deviation, honest, reach)).sum()
        assert bool(distance < 1e-5) is alike, (deviation, distance)


def test_the_noise_of_the_honest_ones_together_is_the_whole() -> None:
    assert math.sqrt(7 * alone(DpSgdEvent(1.3, 0.5, 1), 7).noise_multiplier ** 2) == pytest.approx(1.3)

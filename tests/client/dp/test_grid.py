"""Clipped gradients as integers: no gradient and no company moves a sum by more than the clipping norm."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from client.dp import grid as module
from client.dp.grid import Grid, IntegerSum
from common.errors import ConfigurationError

CLIPS = [1e-6, 0.0371, 0.5, 1.0, math.nextafter(1.0, 0.0), 3.0, 1e6]


def squares(whole):
    """The exact sum of squares, in Python's integers."""
    return [sum(int(value) ** 2 for value in row) for row in whole.numpy()]


def squares_within(whole, grid):
    return all(square <= grid.radius**2 for square in squares(whole))


@pytest.mark.parametrize("clip", CLIPS)
def test_the_step_is_a_power_of_two_near_the_clip_and_the_radius_never_exceeds_it(clip):
    grid = Grid(clip)
    assert math.frexp(grid.step)[0] == 0.5
    assert clip * 2.0**-20 <= grid.step <= clip * 2.0**-19
    assert grid.radius * grid.step <= clip < (grid.radius + 1) * grid.step


@settings(max_examples=300, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(width=32)),
    st.sampled_from(CLIPS),
)
def test_no_gradient_that_float32_can_hold_is_longer_than_the_clip_afterwards(values, clip):
    grid = Grid(clip)
    whole, _ = grid.clip(torch.from_numpy(values))
    assert torch.equal(whole, whole.trunc())
    assert squares_within(whole, grid)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("size", [1e-30, 1e-3, 0.7, 1.0, 1.5, 70.0, 1e5, 1e20, 3e37])
@pytest.mark.parametrize("numbers", [1, 7, 5000])
def test_a_long_gradient_keeps_its_direction_and_nearly_the_clips_length(clip, size, numbers):
    generator = torch.Generator().manual_seed(numbers)
    gradient = torch.randn(1, numbers, generator=generator, dtype=torch.float64)
    gradient = (gradient / gradient.norm() * size * min(clip, 3e38 / size)).to(torch.float32)
    grid = Grid(clip)
    whole, shortened = grid.clip(gradient)
    exact = gradient.double() / grid.step
    exact = exact * min(1.0, grid.radius / float(exact.norm()))
    assert float((whole.double() - exact).abs().max()) <= 1 + 2e-5 * float(exact.abs().max())
    assert bool(shortened) is bool(float((gradient.double() / grid.step).trunc().norm()) > grid.radius)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_without_a_direction_is_zero_and_leaves_the_others_as_they_were(bad):
    gradients = torch.randn(5, 30, generator=torch.Generator().manual_seed(0)) * 0.01
    expected, _ = Grid(0.5).clip(gradients)
    gradients[2, 7] = bad
    whole, shortened = Grid(0.5).clip(gradients)
    assert not whole[2].any()
    assert shortened[2]
    assert torch.equal(whole[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


def test_a_units_integers_do_not_depend_on_its_company_or_place():
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(40, 333, generator=generator) * 10.0 ** torch.linspace(-8, 30, 40)[:, None]
    whole, _ = Grid(1.0).clip(gradients)
    for part in torch.randperm(40, generator=generator).split(7):
        assert torch.equal(Grid(1.0).clip(gradients[part])[0], whole[part])
    for row in range(40):
        assert torch.equal(Grid(1.0).clip(gradients[row : row + 1])[0][0], whole[row])


@pytest.mark.parametrize("scale", [1.0, 2.0**-10, 2.0**50])
def test_a_units_integers_do_not_depend_on_the_order_in_which_its_squares_are_added(monkeypatch, scale):
    """Sums that end between two numbers of 21 digits, where the last bit of float64 would decide."""
    grid, gradients = Grid(1.0), torch.ones(200, 64)
    gradients[:, 5] = torch.linspace(0, 2.0**-18, 200)
    gradients *= scale
    squares, found = module._squares, []
    for last_bits in (-64, -1, 0, 1, 64):
        changed = lambda values, space, bits=last_bits: squares(values, space) * (1 + bits * 2.0**-53)  # noqa: E731
        with monkeypatch.context() as patched:
            patched.setattr(module, "_squares", changed)
            upper, lower = module._bounds(gradients, module._squares(gradients, torch.empty(1 << 16).double()))
        exact = [sum(int(value * 2**80) ** 2 for value in row) for row in gradients.double().tolist()]
        assert all(int(low * 2**80) << 80 <= value for low, value in zip(lower.tolist(), exact, strict=True))
        assert all(value <= int(high * 2**80) << 80 for high, value in zip(upper.tolist(), exact, strict=True))
        found.append((upper, lower))
    assert all(torch.equal(one, other) for pair in found for one, other in zip(pair, found[0], strict=True))
    assert squares_within(grid.clip(gradients)[0], grid)


def test_gradients_longer_than_the_processors_cache_are_clipped_like_short_ones():
    numbers = module._CACHED + 7
    gradients = torch.zeros(3, numbers)
    gradients[:, ::1000] = torch.randn(3, len(range(0, numbers, 1000)), generator=torch.Generator().manual_seed(4))
    whole, shortened = Grid(0.5).clip(gradients)
    short, short_shortened = Grid(0.5).clip(gradients[:, ::1000].contiguous())
    # The bound on what truncation takes grows with the numbers, but these gradients are far from the norm.
    assert torch.equal(whole[:, ::1000], short)
    assert torch.equal(shortened, short_shortened)
    assert int((whole != 0).sum()) == int((short != 0).sum())
    assert torch.equal(Grid(0.5).clip(gradients, gradients)[0], whole)
    assert gradients.data_ptr() != whole.data_ptr()
    assert torch.equal(gradients, whole)
    assert Grid(0.5).clip(gradients[:0])[0].shape == (0, numbers)


def test_four_hundred_thousand_units_are_summed_exactly_in_any_order():
    """In float32, one unit more moved the sum of so many by 1.24 of the clipping norm."""
    grid, generator = Grid(1.0), torch.Generator().manual_seed(2)
    base, count = torch.randn(16, generator=generator), 400_000
    whole, _ = grid.clip(base + 0.3 * torch.randn(4000, 16, generator=generator))
    total, again = IntegerSum(16, torch.device("cpu")), IntegerSum(16, torch.device("cpu"))
    for _ in range(count // 4000):
        total.add(whole)
        again.add(whole.flip(0))
    without = total.value()
    total.add(whole[:1])
    expected = [sum(int(v) for v in column) * (count // 4000) for column in whole.T]
    assert without.tolist() == again.value().tolist() == expected
    assert torch.equal(total.take() - without, whole[0].to(torch.int64))
    assert not total.value().any()


@pytest.mark.parametrize("clip", [0.0, 1.6e-43, 9e-7, 1.1e6, math.inf, math.nan, -1.0])
def test_a_clipping_norm_at_the_edges_of_float32_is_refused_in_one_line(clip):
    with pytest.raises(ConfigurationError, match=r"clipping_norm is .*: use a number from 1e-06 to 1e\+06"):
        Grid(clip)

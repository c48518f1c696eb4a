"""The mean and the server's optimisers against the same mathematics in exact fractions and plain loops."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.aggregation import AggregationConfig
from common.errors import AdapterRefused
from common.weighting import weights
from server.rounds.aggregation import ServerOptimizer, optimizer_of_round, update_norm, weighted_mean

floats = st.floats(-(2.0**100), 2.0**100, width=32)
bands = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.one_of(st.none(), st.integers(0, 40).map(lambda k: 2**k)), min_size=1
)


def tensors(*values: float) -> dict[str, Any]:
    return {"a.weight": np.array(values, dtype=np.float32), "b.weight": np.full((2, 1), values[0], dtype=np.float32)}


@given(bands)
def test_shares_are_proportional_to_the_declared_bands(declared: dict[str, int | None]) -> None:
    shares = weights(declared, "declared_units")
    known = [band for band in declared.values() if band is not None]
    sizes = {name: band or min(known, default=1) for name, band in declared.items()}
    exact = {name: Fraction(size, sum(sizes.values())) for name, size in sizes.items()}
    assert shares == pytest.approx({name: float(share) for name, share in exact.items()}, rel=1e-15)
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-14)
    assert list(shares) == sorted(shares)


@given(st.lists(st.integers(0, 20).map(lambda k: 2**k), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_least_noise_leaves_less_noise_than_any_other_weights(sizes: list[int], seed: int) -> None:
    """Contributions are one signal each, with noise of standard deviation 1 / band: that of the mean is least."""
    shares = weights({f"bank-{i}": size for i, size in enumerate(sizes)}, "inverse_variance")
    found = [shares[f"bank-{i}"] for i in range(len(sizes))]
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)
    other = np.random.default_rng(seed).dirichlet(np.ones(len(sizes)))

    def noise(weights_: Any) -> float:
        return math.sqrt(math.fsum((float(w) / size) ** 2 for w, size in zip(weights_, sizes, strict=True)))

    assert noise(found) == pytest.approx(1 / math.sqrt(math.fsum(size**2 for size in sizes)), rel=1e-9)
    assert noise(found) <= noise(other) * (1 + 1e-9)


def test_in_the_last_rounds_the_rate_falls_to_nothing() -> None:
    settings = AggregationConfig(server_learning_rate=0.8, server_decay_rounds=4)
    rates = [optimizer_of_round(settings, round_, rounds=6).rate for round_ in range(1, 7)]
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.6, 0.4, 0.2])
    assert optimizer_of_round(AggregationConfig(), 6, rounds=6) == ServerOptimizer()


@given(bands)
def test_uniform_weighting_ignores_what_was_declared(declared: dict[str, int | None]) -> None:
    assert set(weights(declared, "uniform").values()) == {1 / len(declared)}


@given(bands)
def test_under_a_cap_no_member_outweighs_all_others_together(declared: dict[str, int | None]) -> None:
    capped, plain = weights(declared, "capped_units"), weights(declared, "declared_units")
    assert math.fsum(capped.values()) == pytest.approx(1, abs=1e-12)
    if max(plain.values()) <= 0.5 or len(declared) == 1:
        assert capped == plain
        return
    largest = max(plain, key=plain.__getitem__)
    assert max(capped.values()) == capped[largest] == 0.5
    for one in capped.keys() - {largest}:  # the others keep their proportions
        assert capped[one] == pytest.approx(plain[one] / (1 - plain[largest]) / 2, rel=1e-6)


def test_who_declares_nothing_counts_as_the_smallest_that_did() -> None:
    assert weights({"a": 1024, "b": 256, "c": None}, "declared_units") == {
        "a": 1024 / 1536,
        "b": 256 / 1536,
        "c": 256 / 1536,
    }


def test_where_nobody_declares_shares_are_equal() -> None:
    assert weights({"a": None, "b": None}, "declared_units") == {"a": 0.5, "b": 0.5}


@given(st.lists(st.tuples(floats, st.integers(0, 12)), min_size=1, max_size=6))
def test_the_mean_is_the_exact_mean_rounded_to_float32(rows: list[tuple[float, int]]) -> None:
    names = [f"bank-{i}" for i in range(len(rows))]
    shares = weights({name: 2**k for name, (_, k) in zip(names, rows, strict=True)}, "declared_units")
    adapters = {name: tensors(value) for name, (value, _) in zip(names, rows, strict=True)}
    combined = weighted_mean(adapters.__getitem__, shares)
    exact = sum(Fraction(value) * 2**k for value, k in rows) / sum(2**k for _, k in rows)
    largest = max(abs(value) for value, _ in rows)
    assert combined["a.weight"].dtype == np.float32
    # Half a unit of float32, and the digits that float64 lost to cancellation before it.
    assert abs(float(combined["a.weight"][0]) - float(exact)) <= abs(float(exact)) * 2**-24 + largest * 2**-49 + 2**-149
    assert combined["b.weight"].shape == (2, 1)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_mean_is_the_same_bits_in_whatever_order_contributions_come(random: Any) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    # Huge and opposite values: another order of addition would leave another remainder.
    contributions = {f"bank-{i}": tensors(*(rng.normal(size=50) * 1e15 ** (i % 3))) for i in range(6)}
    contributions |= {f"mirror-{i}": {n: -v for n, v in contributions[f"bank-{i}"].items()} for i in range(6)}
    shares = weights(dict.fromkeys(contributions), "uniform")
    shuffled = list(contributions)
    random.shuffle(shuffled)
    once = weighted_mean(contributions.__getitem__, shares)
    again = weighted_mean(contributions.__getitem__, {name: shares[name] for name in shuffled})
    assert {name: value.tobytes() for name, value in once.items()} == {n: v.tobytes() for n, v in again.items()}


def test_update_norm_is_the_euclidean_length_over_all_tensors() -> None:
    base = tensors(1, 2, 3)
    moved = {name: value.copy() for name, value in base.items()}
    moved["a.weight"][0] += 3
    moved["b.weight"][1, 0] -= 4
    assert update_norm(moved, base) == 5.0
    assert update_norm(base, base) == 0.0


def test_update_norm_of_the_largest_floats_is_finite() -> None:
    largest = float(np.finfo(np.float32).max)
    assert math.isfinite(update_norm(tensors(largest, largest), tensors(-largest, -largest)))


# --- server optimisers


def slow_optimizer(kind: str, rate: float, beta: float, start: float, means: list[float]) -> list[float]:
    """Reddi et al. 2021, algorithm 2, one number at a time in float64."""
    here, first, second, path = start, 0.0, 1e-3**2, []
    for target in means:
        step = target - here
        if kind == "momentum":
            first = beta * first + step
            step = first
        elif kind == "adam":
            first = beta * first + (1 - beta) * step
            second = 0.99 * second + 0.01 * step * step
            step = first / (math.sqrt(second) + 1e-3)
        here += rate * step
        path.append(here)
    return path


@pytest.mark.parametrize("kind", ["none", "momentum", "adam"])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_optimizers_follow_their_paper(kind: Any, rate: float) -> None:
    optimizer = ServerOptimizer(kind, rate, 0.8)
    goals = np.random.default_rng(0).normal(size=8)
    here, state = tensors(0.5, -1.0), dict[str, Any]()
    for i, goal in enumerate(goals):
        here, state = optimizer.step(here, tensors(goal, 2 * goal), state)
        for index, (start, factor) in enumerate([(0.5, 1), (-1.0, 2)]):
            expected = slow_optimizer(kind, rate, 0.8, start, [float(factor * g) for g in goals[: i + 1]])
            assert here["a.weight"][index] == pytest.approx(expected[-1], rel=1e-4, abs=1e-5)


def test_without_optimizer_and_at_rate_one_the_mean_is_the_result_bit_for_bit() -> None:
    target = tensors(1e-8, 0.1)
    after, state = ServerOptimizer().step(tensors(1e8, 3), target, {})
    assert {name: value.tobytes() for name, value in after.items()} == {n: v.tobytes() for n, v in target.items()}
    assert state == {}


@pytest.mark.parametrize("kind", ["none", "momentum", "adam"])
def test_a_step_changes_neither_its_adapter_nor_its_state(kind: Any) -> None:
    optimizer = ServerOptimizer(kind, 0.5)
    here, state = optimizer.step(tensors(1, 2), tensors(2, 4), {})
    before = (
        {n: v.copy() for n, v in here.items()},
        {m: {n: v.copy() for n, v in t.items()} for m, t in state.items()},
    )
    optimizer.step(here, tensors(9, 9), state)
    np.testing.assert_equal((here, state), before)


@pytest.mark.parametrize("kind", ["none", "momentum", "adam"])
def test_a_step_beyond_float32_is_an_error_and_never_an_infinity(kind: Any) -> None:
    optimizer = ServerOptimizer(kind, 1e30)
    with pytest.raises(AdapterRefused, match="max_update_norm") as caught:
        optimizer.step(tensors(-1e20), tensors(1e20), {})
    assert caught.value.code == "non_finite"

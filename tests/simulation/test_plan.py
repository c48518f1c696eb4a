"""The plan says which way of adding noise leaves less, as the formulas of the mean have it."""

import json
import math
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigurationError
from common.privacy.accounting import DpSgdEvent, epsilon
from simulation.cli import main
from simulation.plan import compare

USUAL: dict[str, Any] = {"target_epsilon": 3.0, "delta": 1e-4, "sampling_rate": 0.25, "rounds": 40}


def test_equal_banks_gain_the_root_of_the_honest_ones() -> None:
    plan = compare([377] * 20, 20, **USUAL)
    assert plan.once == pytest.approx(plan.pooled) == 7540
    assert plan.each["declared_units"] == pytest.approx(plan.each["inverse_variance"]) == pytest.approx(377 * 20**0.5)
    assert plan.better == "once"
    assert plan.epsilon <= 3
    assert plan.epsilon_alone == epsilon([DpSgdEvent(plan.noise_multiplier / 20**0.5, 0.25, 40)], 1e-4)
    assert plan.epsilon_alone > 35
    assert plan.least_threshold == 20


def test_one_large_institution_with_few_honest_ones_is_better_off_with_its_own_noise() -> None:
    sizes = [4640, 568, 568, 568, 568, 568]
    assert compare(sizes, 2, **USUAL).better == "each"
    assert compare(sizes, 6, **USUAL).better == "once"
    assert compare(sizes, 2, **USUAL).least_threshold == 5


@pytest.mark.parametrize(("sizes", "honest"), [([100, 300, 50], 2), ([64, 64], 2), ([1, 1000, 10, 10], 3)])
def test_the_units_are_those_of_simulated_noise(sizes: list[int], honest: int) -> None:
    """Noise is drawn for each institution as it is added, weighted, and compared with that of one institution."""
    plan = compare(sizes, honest, **USUAL)
    draw, count = np.random.default_rng(0), 200_000
    noise = draw.normal(0, plan.noise_multiplier, (len(sizes), count))
    total = sum(sizes)
    mean = sum(size / total * row / size for size, row in zip(sizes, noise, strict=True))
    assert plan.noise_multiplier / np.std(mean) == pytest.approx(plan.each["declared_units"], rel=0.01)
    once = noise.sum(axis=0) / math.sqrt(honest) / total
    assert plan.noise_multiplier / np.std(once) == pytest.approx(plan.once, rel=0.01)
    squares = sum(size**2 for size in sizes)
    inverse = sum(size**2 / squares * row / size for size, row in zip(sizes, noise, strict=True))
    assert plan.noise_multiplier / np.std(inverse) == pytest.approx(plan.each["inverse_variance"], rel=0.01)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sizes": [5]}, "--sizes: give the units of two institutions or more"),
        ({"sizes": [5, 0]}, "--sizes: give the units of two institutions or more, each between 1 and"),
        ({"sizes": [5, 10**400]}, "each between 1 and 1,099,511,627,776"),
        ({"honest": 1}, "--honest is 1: use 2 to 3"),
        ({"honest": 4}, "--honest is 4: use 2 to 3"),
        ({"target_epsilon": 0.0}, "privacy.target_epsilon is 0.0: use a number above 0"),
        ({"delta": 1.0}, "delta"),
        ({"rounds": 0}, "--rounds is 0: use 1 to 1,000,000"),
        ({"sampling_rate": 2.0}, "--sampling-rate is 2.0: use a share above 0 and at most 1"),
    ],
)
def test_numbers_out_of_range_are_one_line(changes: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {"sizes": [5, 5, 5], "honest": 2, **USUAL, **changes}
    with pytest.raises(ConfigurationError, match=why):
        compare(**given)


def test_the_command_says_it_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    given = "--honest 2 --target-epsilon 3 --delta 1e-4 --sampling-rate 0.25 --rounds 40"
    assert main(["plan", "--sizes", "4640", *["568"] * 5, *given.split()]) == 0
    said = capsys.readouterr().out
    assert "better: the whole noise by each leaves" in said
    assert "With noise once it rests on 2 honest of any 5 institutions, and is" in said
    assert "not known here" in said
    assert main(["plan", "--sizes", "64", "64", *given.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["better"] == "once"
    assert found["once"] == pytest.approx(128)
    assert main(["plan", "--sizes", "64", "64", *given.replace("2", "3", 1).split()]) == 2
    assert "--honest is 3: use 2 to 2" in capsys.readouterr().err

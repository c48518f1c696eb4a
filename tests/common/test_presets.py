"""One table of starting values: a federation and a training alone take theirs from it, and the page repeats it."""

import re
from pathlib import Path

import pytest

from common.config.run import parse_run
from common.presets import preset
from common.tasks import TASKS, task

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
TABLES = {
    "run": {"name": "desks", "seed": 1, "rounds": 1},
    "training": {"local_steps": 1, "sampling_rate": 0.5, "learning_rate": 0.1},
}
PRIVACY = {True: {"mode": "high", "delta": 1e-5}, False: {"mode": "none"}}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_a_federation_that_names_nothing_starts_from_the_preset(name: str, private: bool) -> None:
    run, start = parse_run(TABLES | {"task": {"name": name}, "privacy": PRIVACY[private]}, "run"), TASKS[name]
    values = preset(start, private=private)
    for key in ("rank", "alpha", "dropout", "target_modules", "layers", "trained_factors"):
        assert getattr(run.adapter, key) == getattr(values, key), key
    assert (run.training.optimizer, run.training.max_batch_tokens) == (values.optimizer, values.max_batch_tokens)
    assert run.model.max_tokens == values.max_tokens


def test_with_privacy_nothing_is_dropped_fewer_parameters_are_trained_and_adam_is_avoided() -> None:
    for name in TASKS:
        private, plain = (preset(task(name), private=each) for each in (True, False))
        assert (private.dropout, private.layers, private.trained_factors, private.optimizer) == (
            0,
            "last:2",
            "B",
            "sgd",
        )
        assert (plain.layers, plain.trained_factors, plain.optimizer) == ("all", "AB", "adamw")
        assert (private.rank, private.alpha, private.max_tokens) == (plain.rank, plain.alpha, plain.max_tokens)


@pytest.mark.parametrize(
    "key", ["max_tokens", "target_modules", "layers", "trained_factors", "optimizer", "max_batch_tokens"]
)
def test_the_page_gives_the_defaults_of_the_table(key: str) -> None:
    [line] = [line for line in PAGE.split("## institution.toml")[0].splitlines() if line.startswith(f"| `{key}` |")]
    default = line.strip("|").split("|")[2]
    kinds = [(private, prompt) for private in (True, False) for prompt in (True, False)]
    values = {str(getattr(preset(e, private=p, prompt=s), key)) for e in TASKS.values() for p, s in kinds}
    assert {value.strip("`") for value in re.findall(r"`[^`]+`|\d+", default)} == values

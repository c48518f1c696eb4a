"""Declared answers are a part of a run: they change its digest, and a faulty set is one line."""

import re
from pathlib import Path
from typing import Any

import pytest

from common.config.answers import read_answers
from common.config.run import RunConfig, parse_run
from common.errors import ConfigurationError
from common.tasks import task


def run(answers: Any = None, name: str = "instruction_tuning") -> RunConfig:
    tables: dict[str, Any] = {
        "run": {"name": "tiny", "seed": 3, "rounds": 3},
        "task": {"name": name} | ({} if answers is None else {"answers": answers}),
        "training": {"learning_rate": 0.5, "sampling_rate": 0.25, "local_steps": 2},
        "privacy": {"mode": "none"},
    }
    return parse_run(tables, "run.toml")


def test_they_travel_with_the_run_in_an_order_of_their_own_and_a_run_without_has_no_such_key() -> None:
    one, other = run({"b": ["x", "y"], "a": ["up", "down"]}), run({"a": ["up", "down"], "b": ["x", "y"]})
    assert one.digest() == other.digest() != run({"a": ["up", "down"]}).digest()
    assert RunConfig.from_json(one.to_json()) == one
    assert RunConfig.from_tables(one.to_tables()) == one
    assert "answers" not in run().to_json()
    assert {one: 1}[other] == 1


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("up", 'task.answers is "up": use a table whose values are lists of different texts'),
        (
            {"trend": ["up", "up"]},
            'task.answers is a table whose "trend" is a list of other values, or of none: use a list of different',
        ),
        (
            {"trend": ["up\nnow", "down"], "z": ["a", "b"]},
            'task.answers is a table whose "trend" is a list of other values',
        ),
        (
            {"trend": "up", "a": ["x", "y"]},
            'task.answers is a table whose "trend" is "up": use a list of different texts, each of one line',
        ),
        ({"two\nlines": ["up", "down"]}, "task.answers is a table with a name that is no text of one line"),
        ({"trend": ["very high", "Very-High"]}, "task.answers.trend needs two or more answers that differ"),
        ({"trend": ["up", "."]}, "task.answers.trend needs two or more answers that differ"),
        ({"trend": ["up", "Up."]}, "task.answers.trend needs two or more answers that differ"),
        ({"trend": []}, 'task.answers is a table whose "trend" is a list of other values, or of none'),
        ({"t" * 81: ["up", "down"]}, "task.answers names a kind of 81 characters: use at most 80"),
    ],
)
def test_a_faulty_set_is_one_line(answers: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        run(answers)


def test_other_tasks_have_none() -> None:
    with pytest.raises(ConfigurationError, match="sentiment_analysis answers no instructions: leave it out"):
        run({"trend": ["up", "down"]}, "sentiment_analysis")


def test_a_file_declares_them_for_a_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.toml"
    path.write_text('trend = ["up", "down"]\n')
    assert read_answers(path, task("instruction_tuning")) == {"trend": ("up", "down")}
    path.write_text("")
    with pytest.raises(ConfigurationError, match="it declares no answers"):
        read_answers(path, task("instruction_tuning"))

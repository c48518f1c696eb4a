"""The files of a run claim no more protection than there was, and hold the attempts that missed the quorum."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config.run import RunConfig
from common.report.records import RoundRecord
from server.results.artifacts import describe_protection, model_card, save_round
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState

TABLES: dict[str, Any] = {
    "run": {"name": "two banks", "seed": 1, "rounds": 2},
    "task": {"name": "sentiment_analysis", "labels": ["negative", "positive"]},
    "training": {"local_steps": 2, "sampling_rate": 0.25, "learning_rate": 1.0},
    "privacy": {"mode": "target", "target_epsilon": 8.0, "delta": 1e-5, "clipping_norm": 0.5},
}


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.from_tables(TABLES)


def test_the_largest_epsilon_is_named_and_rounded_up(config: RunConfig) -> None:
    words = describe_protection(config, {"a": 2.0001, "b": 1.5})
    assert words == "epsilon 2.001 at delta 1e-05 for one record, the largest of any institution"


def test_no_protection_is_claimed_without_privacy_or_with_fixed_noise(config: RunConfig) -> None:
    assert describe_protection(config, {"a": 2.0}, fixed_noise=True) == "none: the noise came from a fixed seed"
    without = RunConfig.from_tables(TABLES | {"privacy": {"mode": "none"}})
    for epsilon in ({}, {"a": None}):
        assert describe_protection(without, epsilon) == "none: trained without differential privacy"


def test_the_model_card_names_task_institutions_metrics_and_privacy(config: RunConfig) -> None:
    card = model_card(config, "run-1", ["a", "b"], {"accuracy": 0.5}, "epsilon 2")
    assert card["Task"] == "sentiment_analysis: negative, positive"
    assert card["Trained by"] == "2 institutions, 2 rounds"
    assert card["On the hub's test set"] == "accuracy 0.500"
    assert card["Privacy"] == "epsilon 2"
    assert model_card(config, "run-1", [], {}, "")["On the hub's test set"] == "not evaluated"


def test_finished_rounds_and_missed_attempts_are_saved_in_order(tmp_path: Path) -> None:
    state = RunState(
        run_id="run-1",
        config_digest="0" * 64,
        next_round=3,
        adapter={"a": np.zeros(2, np.float32)},
        history=(RoundRecord(round=1, weights={"a": 1.0}), RoundRecord(round=2, weights={"a": 1.0})),
        missed=(RoundRecord(round=2),),
    )
    save_round(tmp_path, state)
    assert checkpoint.load(tmp_path / "checkpoint").history == state.history
    written = json.loads((tmp_path / "history.json").read_text())
    assert [(record["round"], bool(record["weights"])) for record in written] == [(1, True), (2, True), (2, False)]

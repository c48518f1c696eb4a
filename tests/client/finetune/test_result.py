"""A result is typed in Python, and the same JSON in its file."""

import json
from pathlib import Path
from typing import Any

import pytest

from client.finetune.result import FineTuningResult, PrivacyGuarantee
from common.errors import ConfigurationError

GUARANTEE = PrivacyGuarantee(
    epsilon=2.9, delta=1e-4, noise_multiplier=1.1, clipping_norm=0.5, sampling_probability=0.25, steps=100,
    unit="record", adjacency="add-or-remove-one", accountant="PLD", ledger_epsilon=3.5, unprotected_before=False,
    does_not_cover=("the figures on the test rows",),
)  # fmt: skip


def result(**changes: Any) -> FineTuningResult:
    values: dict[str, Any] = {
        "adapter": Path("out/adapter"),
        "base_model": "minilm",
        "strategy": "single_task",
        "tasks": ("sentiment_analysis",),
        "method": "lora",
        "settings": {"rank": 16},
        "train_metrics": {"loss": 0.5, "steps": 30, "training_seconds": 2.5, "epochs": 3, "best_epoch": 2,
                          "validation_accuracy": 0.8, "validation_macro_f1": 0.7},
        "measured": {"accuracy": 0.75, "macro_f1": 0.7},
        "trainable_parameters": 10,
        "total_parameters": 100,
        "parameter_efficiency": 0.1,
        "seconds": 3.0,
        "peak_memory_bytes": 2**20,
        "privacy": GUARANTEE,
    }  # fmt: skip
    return FineTuningResult(**(values | changes))


def test_its_file_reads_back_as_the_same_result() -> None:
    for each in (result(), result(privacy=None)):
        record = json.loads(json.dumps(each.to_json()))
        assert record["metrics"] == {"accuracy": 0.75, "macro_f1": 0.7}
        assert FineTuningResult.from_json(record) == each


def test_metrics_and_training_are_typed() -> None:
    found = result()
    assert (found.metrics.accuracy, found.metrics.macro_f1, found.metrics.entity_f1) == (0.75, 0.7, None)
    training = found.training
    assert (training.loss, training.steps, training.seconds) == (0.5, 30, 2.5)
    assert (training.epochs, training.best_epoch) == (3, 2)
    assert training.validation is not None
    assert training.validation.macro_f1 == 0.7


def test_a_private_training_keeps_no_epoch_and_no_validation() -> None:
    training = result(train_metrics={"loss": 1.0, "steps": 9, "training_seconds": 1.0, "clip_fraction": 0.4}).training
    assert (training.epochs, training.best_epoch, training.validation) == (None, None, None)


def test_several_tasks_have_metrics_by_task_alone() -> None:
    several = result(
        tasks=("sentiment_analysis", "risk_classification"),
        measured={"sentiment_analysis": {"accuracy": 0.9}, "risk_classification": {"accuracy": 0.6}},
    )
    assert {name: each.accuracy for name, each in several.metrics_by_task.items()} == {
        "sentiment_analysis": 0.9,
        "risk_classification": 0.6,
    }
    with pytest.raises(ConfigurationError, match="this result has 2 tasks: use metrics_by_task"):
        several.metrics  # noqa: B018


def test_an_adapter_that_was_continued_has_the_metrics_of_its_new_rows() -> None:
    assert result(measured={"new": {"accuracy": 0.8}, "old": {"accuracy": 0.6}}).metrics.accuracy == 0.8

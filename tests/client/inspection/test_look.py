"""The look within a training logs each finding that matters once, draws no random number, and never fails."""

import logging
import random
from collections import Counter

import numpy as np
import pytest
import torch

from client.inspection import look
from client.inspection.look import look_at_rows
from common.data.datasets import Dataset
from common.events import Stopping
from tests.tiny_models import tiny_tokenizer

log = logging.getLogger("look")
PRIVATE = "a customer of bank 3"
TRAIN = Dataset.of(["profit rises", "anna@example.com wrote", "loss"], ["up", "down", "down"])
TEST = Dataset.of(["profit rises", "sales fell"], ["up", "down"])


def test_texts_of_different_tasks_are_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    found = look_at_rows(({"train": TRAIN}, {"test": TEST}), log, tiny_tokenizer(), 64)
    assert found is not None
    assert [split["name"] for split in found["splits"]] == ["train", "test"]
    assert found["shared"] == []
    assert caplog.messages == ["train: 1 (row 2) seem to hold personal data (e-mail)"]


def test_splits_of_one_task_are_compared(caplog: pytest.LogCaptureFixture) -> None:
    found = look_at_rows(({"train": TRAIN, "test": TEST},), log)
    assert found is not None
    assert found["shared"] == [{"first": "train", "second": "test", "count": 1, "rows": [1]}]
    assert "train and test: 1 (row 1) of test with a text of the other" in caplog.messages


def test_a_look_that_fails_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(PRIVATE)

    monkeypatch.setattr(look, "inspect_rows", fail)
    assert look_at_rows(({"train": TRAIN},), log) is None
    assert caplog.messages == ["the rows could not be looked at: RuntimeError"]


def test_a_look_can_be_ended_at_each_step() -> None:
    def end(_: str) -> None:
        raise Stopping

    with pytest.raises(Stopping):
        look_at_rows(({"train": TRAIN},), log, progress=end)


def test_the_look_can_pause_after_each_text() -> None:
    """The agent's look waits there while a question is at work, however long the texts are."""
    steps: Counter[str] = Counter()
    look_at_rows(({"train": TRAIN},), log, progress=lambda step: steps.update([step]))
    assert min(steps["comparing texts"], steps["reading train"]) > len(TRAIN)


def test_no_random_number_is_drawn() -> None:
    def states() -> tuple[object, object, object]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    look_at_rows(({"train": TRAIN, "test": TEST},), log, tiny_tokenizer(), 64)
    assert states() == before

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from client.tracking.experiment_log import ExperimentLog
from common.errors import ConfigurationError
from tests.client.tracking.track_example import track


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def told(log: ExperimentLog) -> None:
    seen = track(scores=(0.7, 0.8))
    for step in seen.steps[:2]:
        log.on_step(step)
    log.on_epoch(seen.epochs[0])
    log.close()


def test_tensorboard_reads_what_was_logged_and_it_lies_below_the_output(tmp_path: Path) -> None:
    told(ExperimentLog("tensorboard", tmp_path / "run"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("train/loss")] == [(1, 1.1), (2, 1.0592)]
    assert [round(e.value, 3) for e in events.Scalars("eval/weighted_f1")] == [0.7]
    assert {"train/grad_norm", "train/learning_rate", "train/update_norm"} <= set(events.Tags()["scalars"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_log_that_is_not_installed_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without_wandb(name: str, package: str | None = None) -> Any:
        return None if name == "wandb" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_wandb)
    with pytest.raises(ConfigurationError, match="log_to wandb: the package is not installed"):
        ExperimentLog("wandb", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_log_that_was_told_nothing_writes_nothing(tmp_path: Path) -> None:
    ExperimentLog("tensorboard", tmp_path).close()
    assert not list(tmp_path.iterdir())

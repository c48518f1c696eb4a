"""Rows are divided once: no text is in two parts, and a private row never chooses the epoch."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.finetune.job import FineTuningJob, PrivacyOptions, TaskData, TrainingOptions
from client.finetune.strategies.split import split_rows
from common.data.datasets import Dataset, Example
from common.tasks import task

LABELS = ("negative", "neutral", "positive")


def rows(numbers: range, name: str) -> Dataset:
    return Dataset(tuple(Example(f"text {number}", number % 3) for number in numbers), LABELS, name)


def job(out: Path, privacy: PrivacyOptions | None = None) -> tuple[FineTuningJob, TaskData]:
    data = TaskData(task("sentiment_analysis"), rows(range(300), "train"), rows(range(270, 330), "test"))
    training = TrainingOptions(validation=0.2)
    return FineTuningJob(data=(data,), out=out, base_model="absent", training=training, privacy=privacy), data


def texts(part: Dataset | None) -> set[str]:
    return set() if part is None else {example.text for example in part.examples}


def test_no_text_is_in_two_parts_and_no_row_is_lost(tmp_path: Path) -> None:
    split = split_rows(*job(tmp_path))
    parts = [texts(split.train), texts(split.validation), texts(split.data.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 330
    assert split.sizes() == {"train": len(parts[0]), "validation": len(parts[1]), "test": 60, "left_out": 30}


def test_training_rows_that_are_test_rows_are_counted_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split_rows(*job(tmp_path))
    assert "train: 30 training rows have a text of the test rows, and are left out" in caplog.text
    assert "text 2" not in caplog.text


def test_the_division_depends_on_the_seed_alone(tmp_path: Path) -> None:
    wanted, data = job(tmp_path)
    assert split_rows(wanted, data) == split_rows(wanted, data)
    assert split_rows(replace(wanted, seed=wanted.seed + 1), data).train != split_rows(wanted, data).train


def test_with_privacy_all_rows_train_and_none_chooses(tmp_path: Path) -> None:
    split = split_rows(*job(tmp_path, PrivacyOptions(epsilon=3.0)))
    assert split.validation is None
    assert split.sizes() == {"train": 270, "validation": 0, "test": 60, "left_out": 30}


def test_the_metric_is_that_of_the_task(tmp_path: Path) -> None:
    assert split_rows(*job(tmp_path)).metric == task("sentiment_analysis").metric

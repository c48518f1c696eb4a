"""A job that cannot be trained is one line when it is made, whatever was given."""

from pathlib import Path
from typing import Any

import pytest

from client.finetune import AdapterOptions, FineTuningJob, PrivacyOptions, TaskData, TrainingOptions, finetune
from common.data.datasets import Dataset
from common.data.reading import read_labelled
from common.errors import ConfigurationError, DataError, FedfinError
from common.tasks import TASKS

ROWS = Dataset.of(["profit", "loss"], ["positive", "negative"])
DATA = TaskData("sentiment_analysis", ROWS, ROWS)


def test_a_task_is_given_by_name_or_itself() -> None:
    assert TaskData(TASKS["sentiment_analysis"], ROWS, ROWS) == DATA
    with pytest.raises(ConfigurationError, match='"sentiment_analysys": did you mean "sentiment_analysis"'):
        TaskData("sentiment_analysys", ROWS, ROWS)
    with pytest.raises(DataError, match="test is a list: give a Dataset"):
        TaskData("sentiment_analysis", ROWS, [])


def test_one_task_needs_no_tuple_and_a_directory_may_be_a_text() -> None:
    job = FineTuningJob(data=DATA, out="runs/s")
    assert (job.data, job.out) == ((DATA,), Path("runs/s"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ROWS}, "data: give a tuple of TaskData"),
        ({"data": ()}, "single_task: give one task"),
        ({"data": (DATA, DATA)}, "single_task: give one task; several are trained by strategy multi_task"),
        ({"out": 3}, "out is 3: use a path"),
        ({"strategy": "multitask"}, 'strategy is "multitask": did you mean multi_task?'),
        ({"pooling": "max"}, 'pooling is "max"'),
        ({"base_model": ""}, 'base_model is ""'),
        ({"seed": "7"}, 'seed is "7": use a whole number'),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"max_tokens": 2}, "max_tokens is 2: use a whole number from 4 to 131072"),
        ({"max_hours": "2"}, 'max_hours is "2"'),
        ({"max_memory_gb": 0}, "max_memory_gb is 0.0: use a number above 0"),
        ({"adapter": {"rank": 20}}, "adapter is a dict: give AdapterOptions"),
        ({"training": 3}, "training is a int: give TrainingOptions"),
        ({"privacy": 3.0}, "privacy is a float: give PrivacyOptions"),
    ],
)
def test_a_wrong_value_is_one_line(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"data": (DATA,), "out": Path("out")}
    with pytest.raises(FedfinError) as caught:
        FineTuningJob(**(values | changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_job_of_another_kind_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the job is a dict: give a FineTuningJob"):
        finetune({"data": ROWS})
    job = FineTuningJob(data=(DATA,), out=tmp_path / "out", strategy="distillation")
    with pytest.raises(ConfigurationError, match="strategy is distillation, which has a kind of job of its own"):
        finetune(job)
    assert not (tmp_path / "out").exists()


def test_wrong_options_are_one_line() -> None:
    for make, message in (
        (lambda: AdapterOptions(rank=0), "rank is 0"),
        (lambda: TrainingOptions(epochs=-1), "epochs is -1"),
        (lambda: PrivacyOptions(), "needs one of a level"),
        (lambda: PrivacyOptions(epsilon="3"), 'epsilon is "3"'),
    ):
        with pytest.raises(ConfigurationError, match=message):
            make()


def test_a_private_training_refuses_labels_that_were_collected_from_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nfell,down\nrose,up\n")
    collected = read_labelled(path, TASKS["document_classification"])
    assert collected.labels_from_rows
    declared = read_labelled(path, TASKS["document_classification"], labels=("down", "up"))
    privacy = PrivacyOptions(epsilon=8.0)
    with pytest.raises(ConfigurationError, match="labels must be declared"):
        FineTuningJob(
            data=(TaskData(TASKS["document_classification"], collected, collected),),
            out=tmp_path / "out",
            privacy=privacy,
        )
    assert FineTuningJob(
        data=(TaskData(TASKS["document_classification"], declared, declared),), out=tmp_path / "out", privacy=privacy
    )

"""All strategies train by the plan of their job, show every step to every observer, and record the kept epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.finetune import FineTuningJob, TrainingOptions
from client.finetune.strategies.scaffold import loop_plan, train, training_record, validator
from client.finetune.strategies.session import Session, open_session
from client.finetune.training.plan import History, Minibatch, TrainingSet
from client.finetune.training.time_budget import TimePlan
from common.events import EpochEvent, StepEvent
from tests.client.finetune.example_data import TinyModels, task_data


class Seen:
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.steps: list[StepEvent] = []
        self.epochs: list[EpochEvent] = []

    def on_step(self, event: StepEvent) -> None:
        self.steps.append(event)

    def on_epoch(self, event: EpochEvent) -> None:
        self.epochs.append(event)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


def opened(models: TinyModels, out: Path, *observers: Seen, **changes: Any) -> Session:
    options = TrainingOptions(epochs=2, batch_size=16, learning_rate=0.02, validation=0.0, patience=5)
    job = FineTuningJob(
        data=(task_data("sentiment_analysis", 40, 16),), out=out, base_model=models("bert"), training=options,
        observers=observers, seed=11, **changes,
    )  # fmt: skip
    return open_session(job)


def training_set(session: Session) -> TrainingSet:
    return TrainingSet(session.model.encode_dataset(session.parts[0].train), session.model.logits)


def test_the_plan_is_the_jobs(models: TinyModels, tmp_path: Path) -> None:
    session = opened(models, tmp_path / "out", max_hours=2.0)
    plan = loop_plan(session)
    assert (plan.epochs, plan.learning_rate, plan.patience, plan.seed) == (2, 0.02, 5, 11)
    assert (plan.identity, plan.metric) == (session.identity, session.metric)
    assert (plan.head_learning_rate, plan.optimizer) == (
        session.settings.head_learning_rate,
        session.settings.optimizer,
    )
    assert plan.max_hours is not None
    assert 1.9 < plan.max_hours < 2.0, "the time before the training counts"


def test_each_row_trains_once_an_epoch_and_both_kinds_of_observers_see_each_step(
    models: TinyModels, tmp_path: Path
) -> None:
    of_job, other = Seen(), Seen()
    session = opened(models, tmp_path / "out", of_job)
    before = session.model.export()
    record = train(session, [training_set(session)], None, observers=(other,))
    assert sum(event.examples for event in of_job.steps) == 2 * 40
    assert [event.step for event in of_job.steps] == [1, 2, 3, 4, 5, 6]
    assert other.steps == of_job.steps
    assert other.epochs == of_job.epochs
    assert (record["epochs"], record["steps"], record["best_epoch"]) == (2, 6, 2)
    assert any((value != before[name]).any() for name, value in session.model.export().items())


def test_a_strategy_may_deal_out_the_rows_itself(models: TinyModels, tmp_path: Path) -> None:
    seen = Seen()
    session = opened(models, tmp_path / "out", seen)
    batches: list[Minibatch] = [((0, np.array([0, 1])),), ((0, np.array([2])),)]
    train(session, [training_set(session)], None, minibatches=lambda _: batches)
    assert [event.examples for event in seen.steps] == [2, 1, 2, 1]


def test_the_validator_measures_the_held_out_rows_by_the_tasks_metrics(models: TinyModels, tmp_path: Path) -> None:
    session = opened(models, tmp_path / "out")
    part = session.parts[0]
    assert validator(session, part.data.task, None) is None
    measure = validator(session, part.data.task, part.data.test)
    assert measure is not None
    assert session.metric in measure()


def test_the_record_is_that_of_the_kept_epoch() -> None:
    def epoch(number: int, loss: float, accuracy: float) -> EpochEvent:
        return EpochEvent(number, 3, number * 5, loss, {"accuracy": accuracy}, number == 2, 1.0)

    epochs = (epoch(1, 0.9, 0.5), epoch(2, 0.6, 0.8), epoch(3, 0.4, 0.7))
    record = training_record(History(epochs, 2, False, 15, 3.21987))
    expected = {"loss": 0.6, "epochs": 3, "best_epoch": 2, "steps": 15, "training_seconds": 3.22}
    assert record == {**expected, "validation_accuracy": 0.8}
    timed = training_record(History(epochs, 2, True, 15, 3.2, TimePlan(3, 5, 5, 0.5, 1.0), out_of_hours=True))
    assert (timed["out_of_hours"], timed["planned_steps"]) == (1.0, 15)

"""Plan a training without privacy, run it, and record its course. All strategies share these steps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from client.finetune.strategies.session import Session
from client.finetune.training.loop import fit
from client.finetune.training.plan import History, LoopPlan, Minibatch, Training, TrainingSet, grouped_minibatches
from common.data.datasets import Dataset
from common.evaluation.evaluator import make_evaluator
from common.events import Observer
from common.tasks import Task

__all__ = ["loop_plan", "train", "training_record", "validator"]


def train(
    session: Session,
    sets: Sequence[TrainingSet],
    validate: Callable[[], Mapping[str, float]] | None,
    *,
    minibatches: Callable[[np.random.Generator], list[Minibatch]] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    observers: Sequence[Observer] = (),
) -> dict[str, float]:
    """Train the session's model on `sets`, in place, and return the record of the training.

    Args:
        session: The opened job.
        sets: The training sets.
        validate: From `validator`. None keeps the last epoch.
        minibatches: Of one epoch. None deals out the rows of the first set, each once.
        penalty: A scalar that is added to the loss of each step.
        observers: Others than those of the job.
    """
    deal = minibatches or partial(_shuffled, sets[0], session.settings.batch_size)
    training = Training(session.model, sets, deal, loop_plan(session), validate, penalty)
    return training_record(fit(training, session.state, (*session.job.observers, *observers)))


def validator(session: Session, task: Task, rows: Dataset | None) -> Callable[[], dict[str, float]] | None:
    """Return the function that measures the model on the held-out rows. None if there are none."""
    if rows is None:
        return None
    # To write all texts after each epoch takes longer than to train, unless they choose the epoch.
    return make_evaluator(session.model, task, rows, writes=task.metric != "log_likelihood")


def loop_plan(session: Session) -> LoopPlan:
    """Return the plan of a training without privacy."""
    settings = session.settings
    return LoopPlan(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        warmup=settings.warmup,
        patience=settings.patience,
        max_batch_tokens=settings.max_batch_tokens,
        precision=settings.precision,
        metric=session.metric,
        seed=session.job.seed,
        identity=session.identity,
        max_hours=session.hours_left,
    )


def training_record(history: History) -> dict[str, float]:
    """Return the record of a training, `FineTuningResult.train_metrics`."""
    best = history.epochs[history.best_epoch - 1]
    hours = {} if history.time is None else {**history.time.figures(), "out_of_hours": float(history.out_of_hours)}
    return {
        "loss": best.train_loss,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "steps": history.steps,
        "training_seconds": round(history.seconds, 2),
        **{f"validation_{name}": value for name, value in best.metrics.items()},
        **hours,
    }


def _shuffled(rows: TrainingSet, size: int, generator: np.random.Generator) -> list[Minibatch]:
    return [((0, chosen),) for chosen in grouped_minibatches(rows.tokens.lengths, size, generator)]

"""One task, one adapter: the plainest strategy."""

import shutil
from functools import partial

import numpy as np

from client.finetune.job import FineTuningJob
from client.finetune.result import FineTuningResult
from client.finetune.strategies.session import Session, loop_plan, open_session, train_metrics
from client.finetune.training.loop import Minibatch, TrainingSet, fit, grouped_minibatches
from client.finetune.training.sft import instruct
from common.evaluation.evaluator import make_evaluator

__all__ = ["run"]


def run(job: FineTuningJob) -> FineTuningResult:
    """Train on the job's rows, choose the epoch on those held out, measure on the test rows.

    Under differential privacy all rows train and the last step is kept.

    Raises:
        FedfinError: one line naming the input that is wrong.
    """
    session = open_session(job)
    if session.done is not None:
        return session.done
    [part] = session.parts
    privacy = None
    if job.privacy is None:
        trained = _train(session)
    else:
        from client.finetune.strategies.private import train_privately  # loads Opacus, which only privacy needs

        trained, privacy = train_privately(session, session.model.encode_dataset(part.train))
    outcome = session.finish(make_evaluator(session.model, part.data.task, part.data.test)(), trained, privacy)
    shutil.rmtree(session.checkpoints, ignore_errors=True)
    return outcome


def _train(session: Session) -> dict[str, float]:
    [part] = session.parts
    model, task, observers = session.model, part.data.task, session.job.observers
    plan = loop_plan(session, part.metric)
    if session.settings.method == "qlora" and task.head.writes_text and not model.base.is_encoder_decoder:
        held = None if part.validation is None else model.encode_dataset(part.validation)
        return train_metrics(
            instruct(
                model,
                model.encode_dataset(part.train),
                held,
                plan,
                session.settings.batch_size,
                session.checkpoints,
                observers,
            )
        )
    rows = TrainingSet(model.encode_dataset(part.train), model.logits)
    validate = None if part.validation is None else make_evaluator(model, task, part.validation)
    batches = partial(_minibatches, rows, session.settings.batch_size)
    return train_metrics(fit(model, [rows], batches, plan, validate, session.state, observers))


def _minibatches(rows: TrainingSet, size: int, generator: np.random.Generator) -> list[Minibatch]:
    return [((0, chosen),) for chosen in grouped_minibatches(rows.tokens.lengths, size, generator)]

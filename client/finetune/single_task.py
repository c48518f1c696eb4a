"""One task, one adapter: the plainest strategy."""

from functools import partial

import numpy as np

from client.finetune.job import Job, Outcome
from client.finetune.loop import Minibatch, Part, fit, grouped_minibatches
from client.finetune.session import Session, loop_plan, open_session, train_metrics
from common.adapters import AdaptedModel
from common.evaluation import Prepared, evaluate, prepare
from common.figures import figures
from common.tasks import Task

__all__ = ["run"]


def run(job: Job) -> Outcome:
    """Train on the job's rows, choose the epoch on those held out, measure on the test rows.

    Raises:
        FedfinError: one line naming the input that is wrong.
    """
    session = open_session(job)
    if session.done is not None:
        return session.done
    trained = _train(session)
    [part] = session.parts
    counts = evaluate(session.model, part.data.test)
    return session.finish(figures(part.data.task, part.data.test.labels, counts), trained)


def _train(session: Session) -> dict[str, float]:
    [part] = session.parts
    model, task = session.model, part.data.task
    rows = Part(model.encode_dataset(part.train), model.logits)
    held = None if part.validation is None else prepare(model, part.validation)
    validate = None if held is None else partial(_figures, model, task, held)
    batches = partial(_minibatches, rows, session.settings.batch_size)
    history = fit(
        model, [rows], batches, loop_plan(session, task.metric), validate, session.state, session.job.observers
    )
    return train_metrics(history)


def _figures(model: AdaptedModel, task: Task, held: Prepared) -> dict[str, float]:
    return figures(task, held.dataset.labels, evaluate(model, held))


def _minibatches(rows: Part, size: int, generator: np.random.Generator) -> list[Minibatch]:
    return [((0, chosen),) for chosen in grouped_minibatches(rows.tokens.lengths, size, generator)]

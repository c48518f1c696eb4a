"""Train one adapter for one task."""

import shutil

from client.finetune.job import FineTuningJob
from client.finetune.result import FineTuningResult
from client.finetune.strategies.finish import finish
from client.finetune.strategies.scaffold import loop_plan, train, training_record, validator
from client.finetune.strategies.session import Session, open_session
from client.finetune.training.plan import TrainingSet
from client.finetune.training.sft import instruct
from common.evaluation.evaluator import make_evaluator
from common.tasks import Head

__all__ = ["run"]


def run(job: FineTuningJob) -> FineTuningResult:
    """Train on the job's rows, choose the epoch on the held-out rows, and measure on the test rows.

    With differential privacy all rows train, and the last step is kept.

    Raises:
        FedfinError: One line that names the wrong input.
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
    result = finish(session, make_evaluator(session.model, part.data.task, part.data.test)(), trained, privacy)
    shutil.rmtree(session.checkpoints, ignore_errors=True)
    return result


def _train(session: Session) -> dict[str, float]:
    [part] = session.parts
    model, task = session.model, part.data.task
    rows = model.encode_dataset(part.train)
    if session.settings.adapter.method == "qlora" and task.head is Head.SUMMARY and not model.base.is_encoder_decoder:
        held = None if part.validation is None else model.encode_dataset(part.validation)
        plan, size = loop_plan(session), session.settings.batch_size
        return training_record(instruct(model, rows, held, plan, size, session.checkpoints, session.job.observers))
    return train(session, [TrainingSet(rows, model.logits)], validator(session, task, part.validation))

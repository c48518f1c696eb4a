"""Make the personal model from the final global adapter, measure both on own test rows, and keep everything inside."""

import logging
from dataclasses import replace

from client.federation.local_round import FederatedJob
from client.personalisation.methods import method_of
from client.personalisation.part import PersonalPart
from client.personalisation.record import PersonalRecord
from common.adapters.travelling import complete
from common.data.datasets import Dataset
from common.errors import AssignmentRefused, DataError, ModelError
from common.evaluation.evaluate import Prepared, evaluate, prepare
from common.evaluation.metrics import headline
from common.protocol.adapter_codec import Tensors
from common.protocol.messages import RefusalCode

__all__ = ["begin", "finish"]

log = logging.getLogger("fedfin.institution")


def begin(job: FederatedJob, part: PersonalPart) -> None:
    """Write the record of a personal part that begins, if there is none.

    Raises:
        AssignmentRefused: The model cannot have it. Nothing was charged.
    """
    wanted = job.config.personalisation
    try:
        method_of(wanted).check(job.model)
    except ModelError as error:
        raise AssignmentRefused(RefusalCode.CONFIG, str(error)) from error
    if part.record() is None:
        part.write(_record(job))


def finish(
    job: FederatedJob, part: PersonalPart, shared: Tensors, labels: tuple[str, ...], test: Dataset | None
) -> None:
    """Make the personal model in `job.model` and save it beside its record.

    If the further steps do not fit in the budget, or there is no row for them, the personal model is the global one.
    The record says so.

    Args:
        job: The round after the last one. Its model is overwritten.
        part: The personal part.
        shared: The tensors of the final global adapter.
        labels: Labels in the order of the model's outputs.
        test: The institution's own test rows. None without any.
    """
    config = job.config
    method, wanted = method_of(config.personalisation), config.personalisation
    rows = prepare(job.model, test) if test is not None and len(test) else None
    record = _record(job)
    before: dict[str, float] = {}
    if wanted.method != "head":
        job.model.load(shared)
        before = _measure(job, rows)
    job.model.load(complete(method.receive(shared, part.before(job.round)), job.model))
    refused = ""
    try:
        method.finish(job)
    except (AssignmentRefused, DataError) as error:
        log.warning("personal part refused: %s", error)
        refused = str(error)
    delta = config.privacy.delta if job.institution.noise == "system" else None  # fixed noise protects nobody
    epsilon = None if delta is None else job.ledger.epsilon(delta, job.run_id)
    part.save_model(job.model, config, labels, record, epsilon)
    part.write(
        replace(
            record,
            steps=0 if refused else record.steps,
            finished=True,
            refused=refused,
            metrics_shared=before,
            metrics_personal=_measure(job, rows),
        )
    )


def _record(job: FederatedJob) -> PersonalRecord:
    wanted, private = job.config.personalisation, job.config.privacy.mode != "none"
    return PersonalRecord(
        run_id=job.run_id,
        method=wanted.method,
        noised=private and not wanted.is_unnoised,
        steps=wanted.noised_steps,
    )


def _measure(job: FederatedJob, rows: Prepared | None) -> dict[str, float]:
    return {} if rows is None else headline(evaluate(job.model, rows))

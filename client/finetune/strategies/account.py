"""Hold a fine-tuning job to the limits of its institution, and charge its ledger.

A job without an institution has no limits. If it trains with privacy, its ledger lies in the output directory.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.finetune.job import FineTuningJob
from client.institution.config import InstitutionConfig
from client.institution.directory import InstitutionDirectory
from client.institution.limits import ProposedTraining, charge_training, check_charge, check_limits
from common.adapters.manifest import read_manifest
from common.config.privacy import LEVELS
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import ChargeContext, Reservation
from common.privacy.ledger import PrivacyLedger

if TYPE_CHECKING:
    from client.finetune.strategies.session import Session

__all__ = ["Account", "charge_without_privacy", "check_job", "institution_of", "open_account"]


@dataclass(frozen=True)
class Account:
    """The ledger that a training is charged to, and the institution whose limits hold. None sets no limits."""

    ledger: PrivacyLedger
    institution: InstitutionConfig | None

    def charge(
        self, session: "Session", event: DpSgdEvent, num_units: int, delta: float | None, clipping_norm: float
    ) -> Reservation:
        """Begin the output directory and charge the training. A training that is refused writes and charges nothing.

        Raises:
            AssignmentRefused: The training breaks a limit, or does not fit in the budget.
            LedgerError: The charge could not be written.
        """
        context = ChargeContext(
            run_id=f"alone-{session.identity[:32]}",
            round=1,
            requester=session.keys.name,
            task="+".join(session.manifest.tasks)[:60],
            base_digest=session.model.base.digest,
            data_fingerprint="-".join(value[:16] for value in session.fingerprints().values())[:60],
            num_units=num_units,
            delta=delta,
            clipping_norm=clipping_norm,
            run_steps=event.steps,
        )
        training = _propose(session.job, session.manifest.base_model, delta, num_units)
        check_charge(self.ledger, self.institution, training, event, context)
        session.begin()
        return charge_training(self.ledger, self.institution, training, event, context)


def institution_of(job: FineTuningJob) -> InstitutionConfig | None:
    """Return the settings of the job's institution.

    Raises:
        ConfigurationError: There is no institution in the directory, or its settings cannot be used.
    """
    return None if job.institution is None else InstitutionDirectory(job.institution).settings()


def check_job(job: FineTuningJob) -> None:
    """Refuse a job that its institution's limits do not allow. No row is looked at.

    Raises:
        AssignmentRefused: The first limit that the job would break.
    """
    institution = institution_of(job)
    if institution is not None:
        base = job.base_model if job.previous is None else read_manifest(job.previous.adapter)[0].base_model
        check_limits(institution, _propose(job, base, job.privacy.delta if job.privacy else None, None))


@contextmanager
def open_account(session: "Session") -> Iterator[Account]:
    """Open the ledger of the job's institution, or the one in the output directory.

    Raises:
        LedgerError: The ledger is absent, held by another process, or does not verify.
    """
    job = session.job
    if job.institution is None:
        session.begin()
        path = job.out / "ledger.jsonl"
    else:
        path = InstitutionDirectory(job.institution).ledger_path
    with PrivacyLedger.open(path, session.keys, begun=job.institution is not None) as ledger:
        yield Account(ledger, institution_of(job))


def charge_without_privacy(session: "Session") -> None:
    """Charge a training without privacy to the job's institution: its epsilon is infinite from then on.

    Raises:
        AssignmentRefused: The institution does not train without privacy, or has an epsilon that limits it.
    """
    rows = sum(len(part.train) for part in session.parts)
    steps = session.settings.epochs * math.ceil(rows / session.settings.batch_size)
    with open_account(session) as account:
        account.charge(session, DpSgdEvent(0.0, 1.0, steps), rows, None, 0.0)


def _propose(job: FineTuningJob, base_model: str, delta: float | None, num_units: int | None) -> ProposedTraining:
    level = job.privacy.level if job.privacy else None
    return ProposedTraining(
        tasks=tuple(data.task.name for data in job.data),
        base_model=base_model,
        private=job.privacy is not None,
        delta=delta,
        noise_multiplier=LEVELS[level][0] if level else None,
        num_units=num_units,
    )

"""Fine-tuning alone under differential privacy: the charge first, then the project's one DP-SGD loop.

All rows train and the last step is kept: no private row may choose an epoch, and no noise is ever stored. An
interrupted training therefore starts anew, and is charged anew.
"""

import math

from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan, DpTrainingStats
from client.dp.training import train, verify_training
from client.finetune.job import PrivacyOptions
from client.finetune.result import PrivacyGuarantee
from client.finetune.strategies.account import institution_of, open_account
from client.finetune.strategies.session import Session
from client.institution.config import InstitutionConfig, power_of_two_at_most
from common.adapters.feature_cache import FeatureCache
from common.adapters.manifest import read_manifest, unprotected
from common.base_models.provenance import read_provenance
from common.config.privacy import LEVELS
from common.errors import ConfigurationError, DataError
from common.privacy.accounting import DpSgdEvent, calibrate
from common.privacy.charges import Reservation
from common.privacy.ledger import PrivacyLedger
from common.tokenization.batches import TokenizedSet

__all__ = ["train_privately"]


def train_privately(session: Session, rows: TokenizedSet) -> tuple[dict[str, float], PrivacyGuarantee]:
    """Train `session.model` on `rows`, in place, with differential privacy. The ledger is charged first.

    Returns:
        The record of the training, and its guarantee.

    Raises:
        AssignmentRefused: The training breaks a limit of the institution, or exceeds the rest of its budget.
        BudgetExceeded: The training exceeds the budget. Nothing is charged.
        ConfigurationError: The options are invalid together.
        ModelError: The adapter has no per-example gradients. The message names an adapter that has.
    """
    choice = session.job.privacy
    if choice is None:
        raise ConfigurationError("privacy: none was chosen")
    institution = institution_of(session.job)
    delta = _delta(choice, institution, len(rows))
    plan, dp = _plan(session, choice, delta, len(rows), institution)
    event = DpSgdEvent(dp.noise_multiplier, dp.sampling_probability, dp.steps)
    cache = FeatureCache()
    verify_training(session.model, plan)
    with open_account(session) as account:
        reservation = account.charge(session, event, len(rows), delta, dp.clipping_norm)
        return _train(session, account.ledger, reservation, rows, plan, cache)


def _train(
    session: Session,
    ledger: PrivacyLedger,
    reservation: Reservation,
    rows: TokenizedSet,
    plan: DpTrainingPlan,
    cache: FeatureCache,
) -> tuple[dict[str, float], PrivacyGuarantee]:
    event, context = reservation.event, reservation.use
    delta = context.delta or 0.0
    stats = train(session.model, rows, plan, SystemNoise(), cache=cache, observers=session.job.observers)
    ledger.settle(reservation, plan.steps)
    guarantee = PrivacyGuarantee(
        epsilon=ledger.epsilon(delta, context.run_id),
        delta=delta,
        noise_multiplier=event.noise_multiplier,
        clipping_norm=context.clipping_norm,
        sampling_probability=event.sampling_probability,
        steps=event.steps,
        unit="record",
        adjacency="add-or-remove-one",
        accountant="PLD",
        ledger_epsilon=ledger.epsilon(delta),
        unprotected_before=_unprotected_before(session),
        does_not_cover=tuple(_uncovered(session)),
    )
    return _train_metrics(stats), guarantee


_NEVER_COVERED = (
    "the figures on the test rows",
    "the power of two at or below the number of rows: sampling rate and steps follow from it, and so do divisor and "
    "delta where the institution declares none",
)


def _unprotected_before(session: Session) -> bool:
    """Return whether the training began from weights that private rows shaped without differential privacy."""
    if read_provenance(session.manifest.base_model).private_text:
        return True
    if session.job.previous is None:
        return False
    return unprotected(read_manifest(session.job.previous.adapter)[2])


def _uncovered(session: Session) -> list[str]:
    """Return the facts about rows that the guarantee of this training does not cover, one sentence each."""
    found = []
    if session.job.previous is not None:
        spent = read_manifest(session.job.previous.adapter)[2].get("privacy")
        how = f"epsilon {spent['epsilon']:.3f} at delta {spent['delta']:g}" if spent else "no privacy"
        found.append(f"the rows of the adapter that was continued, which was trained with {how}")
    if read_provenance(session.manifest.base_model).private_text:
        found.append("the private text that the base model was made from")
    return [*found, *_NEVER_COVERED]


def _plan(
    session: Session, choice: PrivacyOptions, delta: float, records: int, institution: InstitutionConfig | None
) -> tuple[DpTrainingPlan, DpSettings]:
    rate = session.settings.sampling_rate
    batch = rate * ((institution.release.declared_units if institution else None) or power_of_two_at_most(records))
    if rate * records < 1:
        raise DataError(f"privacy: {records} training rows are too few: a step would draw less than one")
    steps = max(1, math.ceil(session.settings.epochs / rate))
    if choice.level is not None:
        noise, clip = LEVELS[choice.level]
    else:
        noise, clip = calibrate(choice.epsilon or 0.0, delta, rate, steps), session.settings.clipping_norm
    dp = DpSettings(noise, clip, rate, steps, expected_batch_size=batch)
    plan = DpTrainingPlan(
        steps=steps,
        sampling_probability=rate,
        learning_rate=session.settings.learning_rate,
        head_learning_rate=session.settings.head_learning_rate,
        optimizer=session.settings.optimizer,
        max_batch_tokens=session.settings.max_batch_tokens,
        dp=dp,
        seed=session.job.seed,
    )
    return plan, dp


def _delta(choice: PrivacyOptions, institution: InstitutionConfig | None, records: int) -> float:
    """Return the delta of the job, the institution's, or the largest power of ten at most a tenth of one over the rows.

    `check_limits` holds it against the institution's.
    """
    own = institution.limits.delta if institution else None
    delta = choice.delta or own or 10.0 ** -math.ceil(math.log10(10 * records))
    if delta >= 1 / records:
        raise ConfigurationError(f"delta is {delta:g}: it must be below one over the {records} training rows")
    return delta


def _train_metrics(stats: DpTrainingStats) -> dict[str, float]:
    """Private and un-noised, like all of `Outcome.train_metrics`: for the institution's own eyes."""
    tail = max(1, len(stats.loss) // 10)
    return {
        "loss": sum(stats.loss[-tail:]) / tail,
        "steps": stats.steps,
        "clip_fraction": sum(stats.clip_fraction) / len(stats.clip_fraction),
        "training_seconds": round(stats.seconds, 2),
    }

"""Enforce an institution's limits on every training, before anything is charged.

A federated round, fine-tuning alone and a forecast all ask `check_limits`, and only `charge_training` reserves budget
in a ledger. The limits that need no row are enforced as soon as the run's configuration is known. No decision here
depends on a quantity that a hub can vary and on the rows at the same time, so that no series of questions reveals
the number of rows.
"""

import math
from dataclasses import dataclass, replace

from client.institution.config import InstitutionConfig
from common.errors import AssignmentRefused
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import ChargeContext, Reservation, Unit, alone
from common.privacy.ledger import PrivacyLedger
from common.protocol.messages import RefusalCode

__all__ = ["ProposedTraining", "charge_training", "check_charge", "check_limits"]


@dataclass(frozen=True, kw_only=True)
class ProposedTraining:
    """The facts about a training that an institution's limits concern.

    Attributes:
        tasks: Names of the tasks that are trained.
        base_model: The base model as the run or the command names it.
        private: Whether the training has differential privacy. The fields below matter only if it has.
        unit: Unit that the training protects.
        delta: Delta at which the training states its epsilon. None if it is not chosen yet.
        noise_multiplier: None if it is not calibrated yet.
        num_units: Number of records or customers. None if the rows are not read yet.
        personal: Method of the personal part that stays inside, "none" without one.
        unnoised_part: Whether that part is computed from private rows without noise.
    """

    tasks: tuple[str, ...]
    base_model: str
    private: bool
    unit: Unit = "record"
    delta: float | None = None
    noise_multiplier: float | None = None
    num_units: int | None = None
    personal: str = "none"
    unnoised_part: bool = False


def check_limits(institution: InstitutionConfig, training: ProposedTraining) -> None:
    """Refuse a training that the institution's limits do not allow. `max_epsilon` is left to the ledger.

    Raises:
        AssignmentRefused: The first limit that the training would break.
    """
    limits = institution.limits
    for name in training.tasks:
        if name not in limits.tasks:
            raise AssignmentRefused(
                RefusalCode.TASK,
                f"task {name} is not among this institution's [limits] tasks: choose one of them, or ask the privacy "
                "officer to add it",
            )
    if training.base_model not in institution.model.allowed:
        raise AssignmentRefused(
            RefusalCode.BASE_MODEL,
            f"base model {training.base_model} is not among this institution's [model] allowed: choose one of them, "
            "or ask the privacy officer to add it",
        )
    _check_personal(institution, training)
    if not training.private:
        if not limits.allow_without_privacy:
            raise AssignmentRefused(
                RefusalCode.PRIVACY_LIMIT,
                "this institution does not train without differential privacy (limits.allow_without_privacy): train "
                "with privacy",
            )
        return
    if training.unit != limits.unit:
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            f"the training protects one {training.unit}, and this institution's limits.unit is {limits.unit}: take "
            f"part in a run with privacy.unit = {limits.unit}",
        )
    _check_delta(institution, training)
    noise = training.noise_multiplier
    if noise is not None and (noise <= 0 or noise < limits.min_noise_multiplier):
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            f"the training's noise {noise:g} is below this institution's limits.min_noise_multiplier "
            f"{limits.min_noise_multiplier:g}: ask for a smaller epsilon, or for more noise",
        )


def check_charge(
    ledger: PrivacyLedger,
    institution: InstitutionConfig | None,
    training: ProposedTraining,
    event: DpSgdEvent,
    context: ChargeContext,
) -> None:
    """Refuse everything that `charge_training` would refuse, and charge nothing.

    Raises:
        AssignmentRefused: See `charge_training`.
    """
    if institution is not None:
        own = alone(event, context.honest).noise_multiplier
        check_limits(institution, replace(training, noise_multiplier=own))
    # Without the noise of others it is the larger figure.
    spent = [c.event_alone for c in ledger.charges if c.reservation.use.run_id == context.run_id]
    if training.private and math.isinf(epsilon([*spent, alone(event, context.honest)], context.delta or 0.5)):
        # No statement could be made of it: it would be charged, infinitely, and never answered.
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            "with this training the run's epsilon would be infinite: ask for more noise, or start a new run",
        )
    ledger.check(event, context, *_budgets(institution))


def charge_training(
    ledger: PrivacyLedger,
    institution: InstitutionConfig | None,
    training: ProposedTraining,
    event: DpSgdEvent,
    context: ChargeContext,
) -> Reservation:
    """Reserve the budget of one training, if the institution's limits allow it.

    When this returns, the charge is on disk and the rows may be used.

    Args:
        institution: Limits that hold. None for a ledger that belongs to no institution.
        training: The facts that the limits concern. Its noise multiplier is taken from `event`.
        event: The mechanism that is charged.
        context: The facts that the ledger keeps beside the event.

    Raises:
        AssignmentRefused: The training breaks a limit, or does not fit in the budget. Nothing was charged.
        LedgerError: The charge could not be written. The training must not start.
    """
    check_charge(ledger, institution, training, event, context)
    return ledger.reserve(event, context, *_budgets(institution))


def _budgets(institution: InstitutionConfig | None) -> tuple[PrivacyLimit | None, PrivacyLimit | None]:
    """Return the officer's limits with and without the assumption of secure aggregation."""
    return (None, None) if institution is None else (institution.limits.budget, institution.limits.budget_alone)


def _check_personal(institution: InstitutionConfig, training: ProposedTraining) -> None:
    """Refuse a personal part that the officer has not allowed."""
    officer = institution.personalisation
    if training.personal != "none" and training.personal not in officer.allowed:
        raise AssignmentRefused(
            RefusalCode.CONFIG,
            f"the run's personal part {training.personal} is not among this institution's [personalisation] allowed: "
            "take part in a run without it, or ask the privacy officer to add it",
        )
    if training.unnoised_part and not officer.allow_without_noise:
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            f"the run's personal part {training.personal} is computed from private rows without noise, and stays "
            "inside: ask the privacy officer to set personalisation.allow_without_noise, or take part in a run without "
            "it",
        )


def _check_delta(institution: InstitutionConfig, training: ProposedTraining) -> None:
    """Compare delta with the officer's, or with the declared size, but never with the number of rows.

    The rows are compared with the officer's delta or with the declared size. A hub chooses neither of these.
    """
    unit, delta, units = institution.limits.unit, institution.limits.delta, 2 * institution.assumed_units
    if training.num_units is not None:
        if delta is not None and delta >= 1 / max(training.num_units, 1):
            raise AssignmentRefused(
                RefusalCode.PRIVACY_LIMIT,
                f"limits.delta is not below one over this institution's {unit}s: lower it in institution.toml",
            )
        if delta is None and training.num_units > units:
            raise AssignmentRefused(
                RefusalCode.PRIVACY_LIMIT,
                f"this institution has more than {units} {unit}s, twice its declared size: set limits.delta below "
                f"one over its {unit}s, or release.declared_units",
            )
    if training.delta is None:
        return
    if delta is not None and training.delta > delta:
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            f"the training's delta {training.delta:g} is above limits.delta {delta:g}: use that",
        )
    if delta is None and training.delta >= 1 / units:
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT,
            f"the training's delta {training.delta:g} is not below one over twice this institution's declared size "
            f"({units} {unit}s): choose a smaller one, or set limits.delta",
        )

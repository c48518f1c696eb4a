"""Forecast the cost of a run for this institution if it takes part in every round, and whether it would be refused,
and why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from client.federation.planning import event_of_round, read_for_run, select_rows
from client.institution.config import InstitutionConfig
from common.config.run import RunConfig
from common.errors import AssignmentRefused
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon, steps_left
from common.privacy.ledger import Charge, unit_of
from common.protocol.messages import RefusalCode

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """The most that a run can cost.

    event: of one round, or None if the run is refused before it is known. rounds: of the run, all of them.
    units: records or customers here. delta: of the limit, or else of the run. All figures but `epsilon_run` are at
        this delta.
    epsilon_run, run_delta: the figures of the run's future statement. spent, after: of the whole ledger.
    rounds_that_fit: under the limit, one after another. refused: reason and code of the refusal, or None if all rounds
        fit.
    """

    event: DpSgdEvent | None
    rounds: int
    units: int | None
    run_delta: float | None
    epsilon_run: float | None
    delta: float | None
    spent: float | None
    after: float | None
    limit: PrivacyLimit | None
    rounds_that_fit: int
    refused: tuple[RefusalCode, str] | None


def forecast(config: RunConfig, institution: InstitutionConfig, charges: Sequence[Charge]) -> Forecast:
    """Hold `config` against the settings, the rows and the ledger, as the agent will.

    Raises:
        DataError: the rows cannot be read.
    """
    limit, run_delta = institution.limits.budget, config.privacy.delta
    delta = limit.delta if limit else run_delta
    spent = [charge.event for charge in charges]
    known = Forecast(
        event=None,
        rounds=config.rounds,
        units=None,
        run_delta=run_delta,
        epsilon_run=None,
        delta=delta,
        spent=None if delta is None else epsilon(spent, delta),
        after=None,
        limit=limit,
        rounds_that_fit=0,
        refused=None,
    )
    try:
        rows = read_for_run(select_rows(institution, config), config)
        known = replace(known, units=rows.units(config.privacy.unit))
        event = event_of_round(config, institution, rows.units(config.privacy.unit))
    except AssignmentRefused as refused:
        return replace(known, refused=(RefusalCode(refused.code), str(refused)))
    whole = replace(event, steps=event.steps * config.rounds)
    known = replace(
        known,
        event=event,
        epsilon_run=math.inf if run_delta is None else epsilon([whole], run_delta),
        after=math.inf if delta is None else epsilon([*spent, whole], delta),
    )
    return _held_to_the_ledger(known, event, config, charges)


def _held_to_the_ledger(known: Forecast, event: DpSgdEvent, config: RunConfig, charges: Sequence[Charge]) -> Forecast:
    unit = unit_of(charges)
    if event.noise_multiplier and unit not in (None, config.privacy.unit):
        why = f"the ledger protects each {unit}, the run each {config.privacy.unit}: one does not bound the other"
        return replace(known, refused=(RefusalCode.BUDGET, why))
    if event.noise_multiplier and known.epsilon_run == math.inf:
        return replace(known, refused=(RefusalCode.PRIVACY_LIMIT, "the run's own epsilon would be infinite"))
    if known.limit is None:
        return replace(known, rounds_that_fit=config.rounds)
    left = steps_left([charge.event for charge in charges], event, known.limit)
    fit = min(config.rounds, left // event.steps)
    if fit == config.rounds:
        return replace(known, rounds_that_fit=fit)
    at = f"epsilon {known.limit.epsilon:g} at delta {known.limit.delta:g}"
    why = f"round {fit + 1} of {config.rounds} would pass the limit of {at}"
    return replace(known, rounds_that_fit=fit, refused=(RefusalCode.BUDGET, why))

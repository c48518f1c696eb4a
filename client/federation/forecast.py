"""Forecast the cost of a run for this institution, if it takes part in every round, and whether it would be refused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from client.federation.planning import event_of_round, read_for_run, select_rows, steps_of_run
from client.institution.config import InstitutionConfig
from common.config.run import RunConfig
from common.errors import AssignmentRefused
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import Charge, alone, counts_others, spendings, spendings_alone, unit_of
from common.privacy.filter import Spending, filter_epsilon, is_kept_for_one_mechanism, steps_left
from common.privacy.global_model import alike, seen_in_global_models
from common.protocol.messages import RefusalCode
from common.report.by_institution import has_little_say
from common.weighting import noise_equivalent_units, weights

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """The most that a run can cost.

    Attributes:
        event: The mechanism of one round. None if the run is refused before it is known.
        rounds: Number of rounds of the run.
        num_units: Number of records or customers. None if the run is refused before the rows are read.
        run_delta, epsilon_run: Delta of the run, and the epsilon that its statement would show at it.
        others, epsilon_global_model: Number of other institutions that the run's quorum asks for, and the epsilon at
            `run_delta` against those who see only the global models, if each adds at least as much noise to them as
            this one. None if there are no others, or the institutions do not train with SGD.
        epsilon_run_alone, after_alone: `epsilon_run` and `after` with this institution's own noise alone. None without
            secure aggregation in the run and in the ledger.
        delta: Delta of the limit, or of the run if there is no limit. `spent` and `after` hold at it.
        spent, after: Epsilon of the whole ledger before and after the run, by privacy-loss distributions.
        limit: The officer's limit. None sets none.
        filter_spent, filter_after: The same by the filter, which also holds for runs that are chosen after the results
            of earlier ones. None without a limit.
        one_mechanism: Whether the ledger is kept for one mechanism, and `after` decides instead of `filter_after`.
        rounds_that_fit: Number of rounds that the limit admits, one after another.
        refused: Code and reason of the refusal. None if all rounds fit.
        share: The institution's share in the weights of a round with all others. None if their sizes are not known.
        little_say: Whether that share is below a tenth of an equal one.
        noise_equivalent_units: Size of an institution alone whose update has the noise of the mean. None as for the
            share, and without privacy.
    """

    event: DpSgdEvent | None
    rounds: int
    num_units: int | None
    run_delta: float | None
    epsilon_run: float | None
    delta: float | None
    spent: float | None
    after: float | None
    limit: PrivacyLimit | None
    rounds_that_fit: int
    refused: tuple[RefusalCode, str] | None
    filter_spent: float | None = None
    filter_after: float | None = None
    one_mechanism: bool = False
    others: int | None = None
    epsilon_global_model: float | None = None
    share: float | None = None
    little_say: bool = False
    noise_equivalent_units: float | None = None
    epsilon_run_alone: float | None = None
    after_alone: float | None = None


def forecast(
    config: RunConfig, institution: InstitutionConfig, charges: Sequence[Charge], others: Sequence[int] = ()
) -> Forecast:
    """Compare `config` with the settings, the rows and the ledger, as the agent will.

    Args:
        charges: All charges of the ledger, oldest first.
        others: Declared sizes of the other institutions. Without them the share in the weights is not known.

    Raises:
        DataError: The rows cannot be read.
    """
    limit, run_delta = institution.limits.budget, config.privacy.delta
    delta = limit.delta if limit else run_delta
    spent = [charge.event for charge in charges]
    known = Forecast(
        event=None,
        rounds=config.rounds,
        num_units=None,
        run_delta=run_delta,
        epsilon_run=None,
        delta=delta,
        spent=None if delta is None else epsilon(spent, delta),
        after=None,
        limit=limit,
        rounds_that_fit=0,
        refused=None,
        filter_spent=filter_epsilon(spent, limit) if limit else None,
    )
    if others:
        known = replace(known, **_among(config, institution, others))
    try:
        rows = read_for_run(select_rows(institution, config), config)
        known = replace(known, num_units=rows.units(config.privacy.unit))
        event = event_of_round(config, institution, rows.units(config.privacy.unit))
    except AssignmentRefused as refused:
        return replace(known, refused=(RefusalCode(refused.code), str(refused)))
    whole = replace(event, steps=steps_of_run(config, event.steps))
    known = replace(
        known,
        event=event,
        epsilon_run=math.inf if run_delta is None else epsilon([whole], run_delta),
        after=math.inf if delta is None else epsilon([*spent, whole], delta),
        filter_after=filter_epsilon([*spent, whole], limit) if limit else None,
        **_in_global_models(event, config),
        **_alone(whole, config, charges, delta),
    )
    known = _compare_with_ledger(known, event, config, charges)
    if known.refused or not _counts_others(config, charges):
        return known
    return _compare_alone(known, event, config, charges, institution.limits.budget_alone)


def _counts_others(config: RunConfig, charges: Sequence[Charge]) -> bool:
    """Return whether the run or a training in the ledger counts the noise of other institutions."""
    return config.aggregation.secure or counts_others(charges)


def _alone(whole: DpSgdEvent, config: RunConfig, charges: Sequence[Charge], delta: float | None) -> dict[str, Any]:
    """Return `Forecast.epsilon_run_alone` and `Forecast.after_alone`."""
    run_delta = config.privacy.delta
    if run_delta is None or not _counts_others(config, charges):
        return {}
    own = alone(whole, config.aggregation.honest)
    spent = [charge.event_alone for charge in charges]
    return {
        "epsilon_run_alone": epsilon([own], run_delta),
        "after_alone": None if delta is None else epsilon([*spent, own], delta),
    }


def _compare_alone(
    known: Forecast, event: DpSgdEvent, config: RunConfig, charges: Sequence[Charge], limit: PrivacyLimit | None
) -> Forecast:
    """Hold the run against the limit without the noise of others."""
    if limit is None:
        return known
    own = alone(event, config.aggregation.honest)
    left = steps_left(spendings_alone(charges), Spending(own, steps_of_run(config, event.steps)), limit)
    fit = min(known.rounds_that_fit, left // event.steps)
    if fit == config.rounds:
        return known
    at = f"epsilon {limit.epsilon:g} at delta {limit.delta:g}"
    why = f"round {fit + 1} of {config.rounds} would pass the limit of {at} if all others work with the hub"
    return replace(known, rounds_that_fit=fit, refused=(RefusalCode.BUDGET, why))


def _in_global_models(event: DpSgdEvent, config: RunConfig) -> dict[str, Any]:
    """Return `Forecast.others` and `Forecast.epsilon_global_model`."""
    others, delta = config.aggregation.quorum - 1, config.privacy.delta
    keeps = config.personalisation.keeps_tensors
    if config.aggregation.secure or not others or delta is None or config.training.optimizer != "sgd" or keeps:
        return {}
    # Steps of the personal part are in no global model. They count in full, so that no later figure is higher.
    after = replace(event, steps=config.personalisation.noised_steps)
    seen = [*seen_in_global_models([(event, alike(others))] * config.rounds), after]
    return {"others": others, "epsilon_global_model": epsilon(seen, delta)}


def _among(config: RunConfig, institution: InstitutionConfig, others: Sequence[int]) -> dict[str, Any]:
    """Return the facts that follow from the declared sizes of all institutions."""
    declared = {str(place): size for place, size in enumerate(others)}
    shares = weights({"": institution.release.declared_units, **declared}, config.aggregation.weighting)
    # With secure aggregation each adds 1 / honest of the variance.
    root = math.sqrt(config.aggregation.honest or 1)
    noise = root * noise_equivalent_units({"": institution.assumed_units, **declared}, shares)
    return {
        "share": shares[""],
        "little_say": has_little_say(shares[""], len(shares)),
        "noise_equivalent_units": None if config.privacy.mode == "none" else noise,
    }


def _compare_with_ledger(known: Forecast, event: DpSgdEvent, config: RunConfig, charges: Sequence[Charge]) -> Forecast:
    unit = unit_of(charges)
    if event.noise_multiplier and unit not in (None, config.privacy.unit):
        why = f"the ledger protects each {unit}, the run each {config.privacy.unit}: one does not bound the other"
        return replace(known, refused=(RefusalCode.BUDGET, why))
    if event.noise_multiplier and known.epsilon_run == math.inf:
        return replace(known, refused=(RefusalCode.PRIVACY_LIMIT, "the run's own epsilon would be infinite"))
    limit = known.limit
    if limit is None:
        return replace(known, rounds_that_fit=config.rounds)
    whole = steps_of_run(config, event.steps)
    spent, round_ = spendings(charges), Spending(event, whole)
    left = steps_left(spent, round_, limit)
    fit = min(config.rounds, left // event.steps)
    known = replace(known, rounds_that_fit=fit, one_mechanism=is_kept_for_one_mechanism([*spent, round_], limit))
    if left >= whole:
        return known
    if fit == config.rounds:
        why = "the rounds fit, and the steps of the personal part after them do not: it would be the global model"
        return replace(known, refused=(RefusalCode.BUDGET, why))
    at = f"epsilon {limit.epsilon:g} at delta {limit.delta:g}"
    why = f"round {fit + 1} of {config.rounds} would pass the limit of {at}"
    return replace(known, refused=(RefusalCode.BUDGET, why))

"""The privacy statement of one institution and run: everything in it is computed from the institution's own ledger.

The same for a deployed institution and a simulated one, and for whoever holds the ledger and the public key: equal
ledgers give equal statements. It stays inside, since it holds the number of records. An institution tells the hub only
`common.protocol.messages.PrivacyStatement`.
"""

import importlib.metadata
import math
from collections.abc import Iterable, Sequence
from typing import Any

from client.budget.second_figure import ASSUMES, by_others, keeps_tensors
from client.institution.say import Say
from client.personalisation.record import PersonalRecord
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon, epsilon_rdp, loss_distribution
from common.privacy.charges import Charge, Unit
from common.privacy.tradeoff import profile
from common.report.statement_record import (
    Adversary,
    Attack,
    CurvePoint,
    GroupPrivacy,
    Mechanism,
    StatementRecord,
)

__all__ = ["GROUPS", "RATES", "statement"]

RATES = (1e-3, 1e-2, 1e-1)
"""False positive rates at which the best attack is bounded."""
GROUPS = (2, 5, 10)
"""Sizes of groups of units for which epsilon is stated."""
_CURVE = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)

_COVERS = (
    "every adapter that this run sent to the hub, or made for its own institution, and whatever is computed from it",
    "trainings that were charged and never finished (a crash, a retry)",
    "losses, counts, clip fractions and the optimiser's state: they stay inside a training and are never sent",
)
_COVERS_SUM = "every masked sum that this run sent to the hub, and whatever is computed from it"
_LEAVES = (
    "the choice of hyperparameters, where it was made on private rows",
    "the declared size band, which is a decision of the privacy officer and not computed from the rows",
    "the hub's test set, which is taken to be public",
    "the hub's choice of institutions: it sees whom it asks, so no amplification is claimed from it",
    "whether the institution answers at all: a refusal's code, or rows that cannot be read",
    "`fedfin-institution finetune` without --privacy and --home: not charged here, its adapters must not leave",
    "what is learned from other sources, and side channels such as the time a training takes",
)
_UNIT_LEAVES: dict[Unit, str] = {
    "record": "several records of one person: the unit is one record, not one customer (see the groups); in plain text "
    "one paragraph, not one document",
    "customer": "one customer under several ids, or at several institutions; replacing a customer's rows costs twice",
}

_ALONE = {"whoever is given the adapter": "the adapter of a training that nobody else took part in"}
_TOGETHER = {
    "an eavesdropper on the network": "nothing but sizes and times of sealed messages; this figure should the "
    "encryption (ML-KEM-768 with X25519) be broken one day",
    "the hub": "every adapter of this institution; it holds however the hub behaves, since clipping and noise are "
    "the institution's own",
    "other institutions, alone or together with the hub": "the combined adapter of each round, or all that the hub "
    "sees; noise of other institutions is not counted on",
    "users of the model": "the last adapter, computed from what the hub saw",
}


def statement(
    charges: Sequence[Charge],
    institution: str,
    run_id: str,
    limit: PrivacyLimit | None,
    *,
    say: Say | None = None,
    part: PersonalRecord | None = None,
    prv: bool = False,
    in_global_models: Sequence[DpSgdEvent] | None = None,
    limit_alone: PrivacyLimit | None = None,
) -> StatementRecord:
    """Return the statement of `institution` about the privacy of run `run_id`, by its whole ledger `charges`.

    `epsilon_run` is None if a training of the run had no privacy.

    Args:
        charges: All charges of the ledger, oldest first.
        institution: Name of the institution.
        run_id: Name of the run.
        limit: The officer's limit. None sets none.
        say: The institution's share in the weights of the run. None if it is not known.
        part: The record of the part that stays inside. None without one.
        prv: Whether to add Opacus' accountant as a third opinion, which loads torch.
        in_global_models: The run's mechanism with the noise of the institutions that were combined, see
            `common.privacy.global_model`. None if it is not known.
        limit_alone: The officer's limit without the assumption of secure aggregation. None takes `limit`.
    """
    here = [charge for charge in charges if charge.reservation.use.run_id == run_id]
    uses = [charge.reservation.use for charge in here]
    unit: Unit = uses[-1].unit if uses else "record"
    return StatementRecord(
        institution=institution,
        run_id=run_id,
        unit=unit,
        adjacency="add-or-remove-one",
        requesters=_distinct(use.requester for use in uses),
        tasks=_distinct(use.task for use in uses),
        base_models=_distinct(use.base_digest for use in uses),
        data_fingerprints=_distinct(use.data_fingerprint for use in uses),
        num_units=max((use.num_units for use in uses), default=None),
        noise_source=_noise_source(here),
        **_spent(charges, here, institution, limit, prv, in_global_models) | _without_others(part),
        **_everything(charges, limit),
        **_without_assumption(charges, here, limit_alone or limit),
        share=say.share if say else None,
        members=say.members if say else None,
        personal=part.method if part else "none",
        personal_steps=part.steps if part and part.finished else 0,
        personal_noised=part.noised if part else True,
        covers=_covers(here),
        does_not_cover=(_UNIT_LEAVES[unit], *_LEAVES),
    )


def _covers(here: Sequence[Charge]) -> tuple[str, ...]:
    if not _private(here):
        return ()
    return (_COVERS_SUM if _honest(here) else _COVERS[0], *_COVERS[1:])


def _honest(here: Iterable[Charge]) -> int | None:
    """Return the least number of institutions whose noise the trainings count. None if none counts that of others."""
    numbers = [c.reservation.use.honest for c in here if c.reservation.use.honest is not None]
    return min(numbers, default=None)


def _without_assumption(
    charges: Sequence[Charge], here: Sequence[Charge], limit: PrivacyLimit | None
) -> dict[str, Any]:
    """Return the figures with this institution's own noise alone. Empty if no training counts that of others."""
    deltas = [c.reservation.use.delta for c in here if c.reservation.use.delta is not None]
    if _honest(charges) is None or not deltas or not _private(here):
        return {}
    delta = max(deltas)
    return {
        "honest": _honest(here),
        "epsilon_run_alone": epsilon([charge.event_alone for charge in here], delta),
        "epsilon_cumulative_alone": epsilon([charge.event_alone for charge in charges], delta),
        "max_epsilon_alone": None if limit is None else limit.epsilon,
    }


def _private(here: Sequence[Charge]) -> bool:
    return all(charge.event.noise_multiplier > 0 for charge in here)


def _noise_source(here: Sequence[Charge]) -> str:
    if any(charge.reservation.use.noise == "fixed" for charge in here):
        return "fixed seed: NOT PRIVATE"
    return "operating system"


def _spent(
    charges: Sequence[Charge],
    here: Sequence[Charge],
    institution: str,
    limit: PrivacyLimit | None,
    prv: bool,
    in_global_models: Sequence[DpSgdEvent] | None,
) -> dict[str, Any]:
    """Return the run's mechanisms and their cost, at the delta that the run states."""
    if not _private(here):
        return {"sampler": "shuffled minibatches", "epsilon_run": None, "epsilon_cumulative": math.inf}
    events = [charge.event for charge in here]
    uses = [charge.reservation.use for charge in here]
    delta = max((use.delta for use in uses if use.delta is not None), default=None if limit is None else limit.delta)
    facts: dict[str, Any] = {
        "sampler": "Poisson",
        "sampler_assumed": "at each step every unit is in the batch with probability q, independently of all others",
        "sampler_implemented": "one 64-bit integer a unit and step, from a keystream that the operating system keyed",
        "noise_multiplier": events[-1].noise_multiplier if events else None,
        "clipping_norm": uses[-1].clipping_norm if uses else None,
        "sampling_probability": events[-1].sampling_probability if events else None,
        "steps": sum(event.steps for event in events),
        "mechanisms": _mechanisms(here),
        "steps_of_unfinished_trainings": sum(charge.event.steps for charge in here if charge.steps_done is None),
        "delta": delta,
        "accountant": f"PLD, dp-accounting {importlib.metadata.version('dp-accounting')}",
    }
    if delta is None:
        return facts | {"epsilon_run": 0.0, "epsilon_cumulative": 0.0}
    losses = loss_distribution(events)
    found = profile(losses)
    run = math.inf if losses is None else losses.epsilon(delta)
    cumulative = epsilon([charge.event for charge in charges], delta)
    num_units = max((use.num_units for use in uses), default=0)
    honest = _honest(here)
    alone = all(use.requester == institution for use in uses)
    return facts | {
        "delta_times_num_units": delta * num_units,
        "epsilon_run": run,
        "epsilon_rdp": epsilon_rdp(events, delta),
        "epsilon_prv": _prv(events, delta) if prv else None,
        "curve": tuple(CurvePoint(delta=d, epsilon=math.inf if losses is None else losses.epsilon(d)) for d in _CURVE),
        "gaussian_mu": found.gaussian_mu(delta),
        "attack": tuple(Attack(false_positive_rate=r, true_positive_rate=found.hit_rate(r)) for r in RATES),
        "groups": tuple(GroupPrivacy(units=k, epsilon=epsilon(events, delta, k), delta=delta) for k in GROUPS),
        "epsilon_cumulative": cumulative,
        "adversaries": _adversaries(run, epsilon([charge.event_alone for charge in charges], delta), alone)
        if honest is None
        else _adversaries_of_sums(charges, here, delta, honest),
        "global_model": () if alone or honest else by_others(events, delta),
        "global_model_assumes": () if alone or honest else ASSUMES,
        "epsilon_global_model": None if in_global_models is None else epsilon(in_global_models, delta),
    }


def _without_others(part: PersonalRecord | None) -> dict[str, Any]:
    """Return empty figures against those who see only the global models, if own tensors stay from round to round."""
    if not keeps_tensors(part):
        return {}
    return {"global_model": (), "global_model_assumes": (), "epsilon_global_model": None}


def _mechanisms(here: Sequence[Charge]) -> tuple[Mechanism, ...]:
    """Steps by noise, sampling probability and clipping norm, in order of first appearance."""
    steps: dict[tuple[float, float, float], int] = {}
    for charge in here:
        event = charge.event
        key = (event.noise_multiplier, event.sampling_probability, charge.reservation.use.clipping_norm)
        steps[key] = steps.get(key, 0) + event.steps
    return tuple(
        Mechanism(noise_multiplier=noise, sampling_probability=rate, clipping_norm=norm, steps=total)
        for (noise, rate, norm), total in steps.items()
    )


def _prv(events: Sequence[Any], delta: float) -> float | None:
    from client.budget.prv import epsilon_prv

    return epsilon_prv(events, delta)


def _adversaries(run: float, cumulative: float, alone: bool) -> tuple[Adversary, ...]:
    """One epsilon for all: no figure depends on the actions of another party, or on noise of other institutions.

    Args:
        run: Epsilon of the run.
        cumulative: Epsilon of the whole ledger with this institution's own noise alone.
        alone: Whether no other institution took part.
    """
    known = _ALONE if alone else _TOGETHER
    return tuple(
        Adversary(name=name, sees=sees, epsilon_run=run, epsilon_all_runs=cumulative) for name, sees in known.items()
    )


def _adversaries_of_sums(
    charges: Sequence[Charge], here: Sequence[Charge], delta: float, honest: int
) -> tuple[Adversary, ...]:
    """One epsilon for those that see sums, which rests on an assumption, and one for those that together break it."""
    run, everything = (epsilon([c.event for c in found], delta) for found in (here, charges))
    run_alone, everything_alone = (epsilon([c.event_alone for c in found], delta) for found in (here, charges))
    figures = {
        f"the hub, other institutions and users of the model, if {honest} institutions of each sum, this one among "
        "them, keep their noise to themselves": (run, everything),
        "the hub together with all other institutions": (run_alone, everything_alone),
    }
    seen = ("the sum of the noised gradients of each round", "the noised gradients of this institution in each round")
    return tuple(
        Adversary(name=name, sees=sees, epsilon_run=one, epsilon_all_runs=all_)
        for (name, (one, all_)), sees in zip(figures.items(), seen, strict=True)
    )


def _everything(charges: Sequence[Charge], limit: PrivacyLimit | None) -> dict[str, Any]:
    """The whole ledger, at the delta at which it is limited."""
    facts: dict[str, Any] = {
        "ledger_entries": len(charges),
        "runs": _distinct(charge.reservation.use.run_id for charge in charges),
        "max_epsilon": None if limit is None else limit.epsilon,
        "max_epsilon_delta": None if limit is None else limit.delta,
    }
    if limit is not None:
        facts["epsilon_of_limit_spent"] = epsilon([charge.event for charge in charges], limit.delta)
    return facts


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    """In order of first appearance."""
    return tuple(dict.fromkeys(values))

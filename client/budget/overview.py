"""A ledger as a summary (spent and remaining budget, runs, data) and as a table of its trainings."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from client.budget.second_figure import ASSUMES, by_others, keeps_tensors
from client.budget.verified_ledger import VerifiedLedger
from client.institution.directory import InstitutionDirectory
from client.personalisation.record import read_record
from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.charges import Charge, counts_others, spendings
from common.privacy.filter import filter_epsilon, is_kept_for_one_mechanism

__all__ = ["overview", "rows"]


def overview(ledger: VerifiedLedger) -> dict[str, Any]:
    """Summarise the whole ledger: the spent epsilon at the limit's delta, or at the largest delta that a run stated,
    and the rest.

    `steps_left` are of the last private kind of training. None without a limit, or before the first private training.
    `global_model` holds epsilon against those who see only the global models of all runs, by the number of others.
    """
    delta, limit = ledger.delta, ledger.limit
    events = [charge.event for charge in ledger.charges]
    private = [event for event in events if event.noise_multiplier]
    return {
        "unit": ledger.unit,
        "adjacency": "add-or-remove-one",
        "delta": delta,
        "epsilon_spent": None if delta is None else epsilon(events, delta),
        **_alone(ledger),
        **_global_model(ledger),
        "filter_epsilon_spent": filter_epsilon(events, limit) if limit else None,
        "kept_for_one_mechanism": limit is not None and is_kept_for_one_mechanism(spendings(ledger.charges), limit),
        "max_epsilon": limit.epsilon if limit else None,
        "steps_left": ledger.steps_left() if private else None,
        "last_kind": private[-1].to_json() if private else None,
        "trainings_without_privacy": len(events) - len(private),
        "trainings_with_fixed_noise": sum(charge.reservation.use.noise == "fixed" for charge in ledger.charges),
        "runs": [asdict(run) for run in ledger.runs],
        "data": _data(ledger.charges),
    }


def rows(ledger: VerifiedLedger) -> list[dict[str, Any]]:
    """One row a training, flat, oldest first."""
    bodies = {entry.sequence: entry.body for entry in ledger.entries}
    found = []
    for charge in ledger.charges:
        reservation, body = charge.reservation, bodies[charge.reservation.sequence]
        limit = body["limit"] or {"epsilon": None, "delta": None}
        found.append(
            {
                "entry": reservation.sequence,
                "time": reservation.time,
                **asdict(reservation.use),
                "noise_multiplier": reservation.event.noise_multiplier,
                "sampling_probability": reservation.event.sampling_probability,
                "steps_reserved": reservation.event.steps,
                "steps_done": charge.steps_done,
                "steps_charged": charge.event.steps,
                "limit_epsilon": limit["epsilon"],
                "limit_delta": limit["delta"],
                "epsilon_after": body["epsilon_after"],
                "filter_epsilon_after": body.get("filter_epsilon_after"),
            }
        )
    return found


def _alone(ledger: VerifiedLedger) -> dict[str, Any]:
    """Return the spent epsilon without the noise of others, if a training counts it, and its limit."""
    limit = ledger.limit_alone or ledger.limit
    known = counts_others(ledger.charges) and ledger.delta is not None
    return {
        "epsilon_spent_alone": epsilon([c.event_alone for c in ledger.charges], ledger.delta or 0.5) if known else None,
        "max_epsilon_alone": limit.epsilon if limit and known else None,
    }


def _global_model(ledger: VerifiedLedger) -> dict[str, Any]:
    """Return the figures against those who see only the global models, and their assumptions.

    Empty if no training was combined with those of others, one had no privacy, or one had secure aggregation.
    Trainings alone, and those of runs in which own tensors stay from round to round, count with this institution's own
    noise.
    """
    home, delta = InstitutionDirectory(ledger.path.parent), ledger.delta
    keeping = {run.run_id for run in ledger.runs if keeps_tensors(read_record(home.personal(run.run_id)))}
    shared: list[DpSgdEvent] = []
    alone: list[DpSgdEvent] = []
    for charge in ledger.charges:
        use = charge.reservation.use
        by_itself = use.requester == ledger.institution or use.run_id in keeping
        (alone if by_itself else shared).append(charge.event)
    private = all(event.noise_multiplier for event in [*shared, *alone])
    if delta is None or counts_others(ledger.charges) or not shared or not private:
        return {"global_model": [], "global_model_assumes": []}
    figures = by_others(shared, delta, alone)
    return {"global_model": [asdict(figure) for figure in figures], "global_model_assumes": list(ASSUMES)}


def _data(found: Sequence[Charge]) -> list[dict[str, Any]]:
    """Each state of the rows, in order: a second line means that the data changed, and the budget went on."""
    states: list[dict[str, Any]] = []
    for charge in found:
        use = charge.reservation.use
        if not states or states[-1]["fingerprint"] != use.data_fingerprint:
            states.append(
                {"fingerprint": use.data_fingerprint, "from_entry": charge.reservation.sequence,
                 "since": charge.reservation.time, "num_units": use.num_units, "trainings": 0}
            )  # fmt: skip
        states[-1]["trainings"] += 1
    return states

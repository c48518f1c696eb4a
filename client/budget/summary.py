"""A ledger as tables: what was spent by whom for what, on which rows, and what is left. Nothing here writes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import LedgerError
from common.identity.keys import PublicKeys
from common.journal.journal import verify
from common.journal.line_format import Entry
from common.privacy.accounting import PrivacyLimit, epsilon, steps_left
from common.privacy.ledger import PURPOSE, Charge, charges, unit_of

__all__ = ["VerifiedLedger", "find_run", "overview", "rows", "verify_ledger"]


@dataclass(frozen=True)
class VerifiedLedger:
    """A ledger whose every signature was checked with `public` alone."""

    path: Path
    public: PublicKeys
    entries: tuple[Entry, ...]
    charges: tuple[Charge, ...]

    def facts(self) -> dict[str, Any]:
        """What an auditor writes down to compare next time: a ledger put back to an earlier state has fewer entries."""
        last = hashlib.sha256(self.entries[-1].line()).hexdigest() if self.entries else None
        return {
            "institution": self.public.name,
            "key_fingerprint": self.public.fingerprint,
            "ledger": str(self.path),
            "entries": len(self.entries),
            "trainings": len(self.charges),
            "unfinished": sum(charge.steps_done is None for charge in self.charges),
            "first": self.entries[0].time if self.entries else None,
            "last": self.entries[-1].time if self.entries else None,
            "last_digest": last,
        }


def verify_ledger(path: Path, public: PublicKeys) -> VerifiedLedger:
    """Check and fold the ledger at `path`; it need not be released by whoever holds it.

    Raises:
        LedgerError: absent, edited, cut, of another key, or not understood.
    """
    entries = verify(path, public, PURPOSE)
    return VerifiedLedger(path, public, entries, tuple(charges(entries).values()))


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
            }
        )
    return found


def overview(found: Sequence[Charge], limit: PrivacyLimit | None) -> dict[str, Any]:
    """The whole ledger: what was spent at the limit's delta, or at the largest that a run stated, and what is left.

    `steps_left` are of the last private kind of training; None without a limit, or before there was one.
    """
    stated = [charge.reservation.use.delta for charge in found if charge.reservation.use.delta is not None]
    delta = limit.delta if limit else max(stated, default=None)
    events = [charge.event for charge in found]
    private = [event for event in events if event.noise_multiplier]
    return {
        "unit": unit_of(found),
        "adjacency": "add-or-remove-one",
        "delta": delta,
        "epsilon_spent": None if delta is None else epsilon(events, delta),
        "max_epsilon": limit.epsilon if limit else None,
        "steps_left": steps_left(events, private[-1], limit) if limit and private else None,
        "last_kind": private[-1].to_json() if private else None,
        "trainings_without_privacy": len(events) - len(private),
        "runs": _runs(found, delta),
        "data": _data(found),
    }


def _runs(found: Sequence[Charge], delta: float | None) -> list[dict[str, Any]]:
    """Each run by itself: who asked for what, when, and its epsilon at `delta`."""
    by_run: dict[str, list[Charge]] = {}
    for charge in found:
        by_run.setdefault(charge.reservation.use.run_id, []).append(charge)
    return [
        {
            "run_id": run_id,
            "asked_by": _distinct(charge.reservation.use.asked_by for charge in own),
            "tasks": _distinct(charge.reservation.use.task for charge in own),
            "base_models": _distinct(charge.reservation.use.base_digest for charge in own),
            "rounds": len({charge.reservation.use.round for charge in own}),
            "trainings": len(own),
            "unfinished": sum(charge.steps_done is None for charge in own),
            "steps": sum(charge.event.steps for charge in own),
            "first": own[0].reservation.time,
            "last": own[-1].reservation.time,
            "epsilon": None if delta is None else epsilon([charge.event for charge in own], delta),
        }
        for run_id, own in by_run.items()
    ]


def _data(found: Sequence[Charge]) -> list[dict[str, Any]]:
    """Each state of the rows, in order: a second line means that the data changed, and the budget went on."""
    states: list[dict[str, Any]] = []
    for charge in found:
        use = charge.reservation.use
        if not states or states[-1]["fingerprint"] != use.data_fingerprint:
            states.append(
                {"fingerprint": use.data_fingerprint, "from_entry": charge.reservation.sequence,
                 "since": charge.reservation.time, "units": use.population, "trainings": 0}
            )  # fmt: skip
        states[-1]["trainings"] += 1
    return states


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def find_run(found: Sequence[Charge], run_id: str | None) -> str:
    """`run_id` if the ledger knows it; the last run where none is named.

    Raises:
        LedgerError: there is no such run.
    """
    known = _distinct(charge.reservation.use.run_id for charge in found)
    if run_id is None and known:
        return found[-1].reservation.use.run_id
    if run_id is None or run_id not in known:
        named = f"run {run_id} is not in the ledger" if run_id else "the ledger holds no training"
        raise LedgerError(f"{named}: {'it holds ' + ', '.join(known) if known else 'nothing was spent here yet'}")
    return run_id

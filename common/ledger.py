"""What an institution's data has been spent on: one ledger over all runs, charged before the data is touched.

A training is *reserved* (on disk, fsynced) before a gradient exists and *settled* after it with the steps it took.
A reservation that was never settled, because of a crash, a kill or a power cut, counts in full, for ever. So at every
moment the ledger shows at least what was spent. Other data, a new run or a reinstalled package start no new budget:
fingerprints are recorded, not consulted.

Exactly what `common.journal` protects is protected here; its docstring says what no file can.
"""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.accounting import DpSgdEvent, Limit, epsilon
from common.errors import BudgetExceeded, LedgerError
from common.journal import Entry, Journal, verify
from common.keys import Keys, PublicKeys

__all__ = ["PURPOSE", "Charge", "PrivacyLedger", "Reservation", "charges", "read_charges"]

PURPOSE = "privacy ledger"
_RESERVED, _SETTLED = "reserved", "settled"


@dataclass(frozen=True)
class Reservation:
    """The right to train `event` once. `sequence` is its entry in the ledger."""

    sequence: int
    run_id: str
    round: int
    event: DpSgdEvent


@dataclass(frozen=True)
class Charge:
    """One reservation, and the steps it took where it was settled (None: it never was, and counts in full)."""

    reservation: Reservation
    steps_done: int | None = None

    @property
    def event(self) -> DpSgdEvent:
        """What counts."""
        event = self.reservation.event
        return event if self.steps_done is None else replace(event, steps=self.steps_done)


class PrivacyLedger:
    """An open ledger; use it as a context manager. Safe to share between threads, never between processes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._charges = charges(journal.entries)
        self._mutex = threading.RLock()

    @classmethod
    def open(cls, path: Path, keys: Keys) -> Self:
        """Open, or begin, the ledger at `path`, and hold it until `close`.

        Raises:
            LedgerError: held by another process, edited, cut, of another key, or holding what is not understood.
        """
        journal = Journal.open(path, keys, PURPOSE)
        try:
            return cls(journal)
        except BaseException:
            journal.close()
            raise

    def reserve(
        self,
        *,
        run_id: str,
        round: int,
        event: DpSgdEvent,
        delta: float,
        max_epsilon: float | None,
        data_fingerprint: str,
        base_digest: str,
    ) -> Reservation:
        """Charge `event`; when this returns, the charge survives anything, and the data may be touched.

        `max_epsilon`: the most that everything in this ledger and `event` may cost at `delta`; None sets no limit.

        Raises:
            BudgetExceeded: it does not fit; nothing was written.
            LedgerError: it could not be written; do not train.
        """
        with self._mutex:
            after = None
            if max_epsilon is not None:
                after = self._fit(event, Limit(max_epsilon, delta))
            body = {
                "run_id": run_id,
                "round": round,
                "event": event.to_json(),
                "delta": delta,
                "max_epsilon": max_epsilon,
                "epsilon_after": after,
                "data_fingerprint": data_fingerprint,
                "base_digest": base_digest,
            }
            entry = self._journal.append(_RESERVED, body)
            return self._note(entry).reservation

    def settle(self, reservation: Reservation, steps_done: int) -> None:
        """Record how many steps the training took; only fewer than were reserved changes what counts.

        Why a training ended early must not depend on the data (an operator's stop does not; a loss does).

        Raises:
            LedgerError: not an open reservation of this ledger, or not a number of steps. More steps than were
                reserved are recorded, since they were spent, and then reported by this error.
        """
        with self._mutex:
            charge = self._charges.get(reservation.sequence)
            if charge is None or charge.reservation != reservation or charge.steps_done is not None:
                raise LedgerError(
                    f"entry {reservation.sequence} of the ledger is no open reservation: nothing was settled"
                )
            replace(reservation.event, steps=steps_done)  # refuses what is no number of steps
            entry = self._journal.append(_SETTLED, {"reservation": reservation.sequence, "steps": steps_done})
            self._note(entry)
            if steps_done > reservation.event.steps:
                raise LedgerError(
                    f"entry {reservation.sequence} of the ledger reserved {reservation.event.steps} steps and "
                    f"{steps_done} were taken: all are charged; find out why"
                )

    def spent(self, run_id: str | None = None) -> tuple[DpSgdEvent, ...]:
        """What counts, oldest first: of one run, or of all. Unsettled reservations count in full."""
        with self._mutex:
            found = [charge for charge in self._charges.values() if run_id in (None, charge.reservation.run_id)]
        return tuple(charge.event for charge in found)

    def epsilon(self, delta: float, run_id: str | None = None) -> float:
        """What all of it together costs at `delta`, for one record added or removed."""
        return epsilon(self.spent(run_id), delta)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Every reservation with what became of it, oldest first."""
        with self._mutex:
            return tuple(self._charges.values())

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The lines of the file, oldest first."""
        return self._journal.entries

    def close(self) -> None:
        """Let others open it. Closing twice is harmless."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fit(self, event: DpSgdEvent, limit: Limit) -> float:
        spent = self.spent()
        after = epsilon([*spent, event], limit.delta)
        if not after <= limit.epsilon or math.isinf(after):
            raise BudgetExceeded(
                f"this training would bring epsilon to {after:.4g} at delta {limit.delta:g}, above the limit "
                f"{limit.epsilon:g} ({epsilon(spent, limit.delta):.4g} is spent): ask for fewer steps or more noise"
            )
        return after

    def _note(self, entry: Entry) -> Charge:
        return _apply(self._charges, entry)


def charges(entries: Iterable[Entry]) -> dict[int, Charge]:
    """Fold a ledger's entries: charges by the sequence number of their reservation.

    Raises:
        LedgerError: an entry that is not understood; it is never skipped.
    """
    folded: dict[int, Charge] = {}
    for entry in entries:
        _apply(folded, entry)
    return folded


def read_charges(path: Path, public: PublicKeys) -> tuple[Charge, ...]:
    """What an auditor does: verify every signature of the ledger at `path`, without its key or lock, and fold it.

    Raises:
        LedgerError: it does not verify.
    """
    return tuple(charges(verify(path, public, PURPOSE)).values())


def _apply(folded: dict[int, Charge], entry: Entry) -> Charge:
    body: Any = entry.body
    try:
        if entry.kind == _RESERVED:
            event = DpSgdEvent.from_json(body["event"])
            sequence, charge = entry.sequence, Charge(Reservation(entry.sequence, body["run_id"], body["round"], event))
        elif entry.kind == _SETTLED and folded[body["reservation"]].steps_done is None:
            sequence, charge = body["reservation"], replace(folded[body["reservation"]], steps_done=body["steps"])
            _ = charge.event
        else:
            raise KeyError
    except (KeyError, TypeError):
        raise LedgerError(
            f"entry {entry.sequence} of the ledger is not understood: this version cannot account for it"
        ) from None
    folded[sequence] = charge
    return charge

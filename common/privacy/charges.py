"""The charges of a privacy ledger: the content of its entries, and the charges that follow from all of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from common.canonical import is_name
from common.errors import LedgerError
from common.identity.keys import PublicKeys
from common.journal.journal import verify
from common.journal.line_format import Entry
from common.privacy.accounting import DpSgdEvent
from common.privacy.filter import Spending

__all__ = [
    "PURPOSE",
    "RESERVED",
    "SETTLED",
    "Charge",
    "ChargeContext",
    "Reservation",
    "Unit",
    "alone",
    "apply_entry",
    "charges",
    "counts_others",
    "read_charges",
    "spendings",
    "spendings_alone",
    "unit_of",
]

PURPOSE = "privacy ledger"
Unit = Literal["record", "customer"]
RESERVED, SETTLED = "reserved", "settled"
"""Kinds of the entries."""


@dataclass(frozen=True, kw_only=True)
class ChargeContext:
    """The purpose of a training and the data that it uses. It stays inside the institution.

    Attributes:
        run_id, round: Name of the run, and the round. A training outside a federation is round 1 of its own run.
        requester: The hub that asked for the training, or the institution itself.
        task: Name of the task.
        base_digest: Digest of the base model.
        data_fingerprint: Keyed fingerprint of the rows, see `Dataset.fingerprint`.
        num_units: Number of units that every step drew from.
        unit: Unit that each event adds or removes one of.
        delta: Delta at which the run states its epsilon. None without privacy.
        clipping_norm: L2 norm to which each unit's gradient is clipped. 0 without privacy.
        noise: "system", or "fixed", which protects nobody.
        run_steps: Steps of the whole run, as its configuration fixes them. None if it fixes none. See
            `common.privacy.filter`.
        honest: Number of institutions whose noise the event counts, each with an equal part of its variance, this one
            among them. None if it counts this institution's noise alone.

    Raises:
        LedgerError: A value is of another type, or out of range.
    """

    run_id: str
    round: int
    requester: str
    task: str
    base_digest: str
    data_fingerprint: str
    num_units: int
    unit: Unit = "record"
    delta: float | None
    clipping_norm: float
    noise: Literal["system", "fixed"] = "system"
    run_steps: int | None = None
    honest: int | None = None

    def __post_init__(self) -> None:
        texts = (self.run_id, self.requester, self.task, self.base_digest, self.data_fingerprint)
        if not all(map(is_name, texts)) or self.unit not in ("record", "customer"):
            raise LedgerError("privacy ledger: a training is named by short names, and protects records or customers")
        if self.noise not in ("system", "fixed"):
            raise LedgerError("privacy ledger: noise is of the system, or fixed")
        if any(type(number) is not int or number < 0 for number in (self.round, self.num_units)):
            raise LedgerError("privacy ledger: round and num_units must be whole numbers, 0 or more")
        if self.run_steps is not None and (type(self.run_steps) is not int or self.run_steps < 0):
            raise LedgerError("privacy ledger: run_steps must be a whole number, 0 or more, or absent")
        if self.honest is not None and (type(self.honest) is not int or self.honest < 1):
            raise LedgerError("privacy ledger: honest must be a whole number, 1 or more, or absent")
        if self.delta is not None and not (type(self.delta) is float and 0 < self.delta < 1):
            raise LedgerError("privacy ledger: delta is between 0 and 1, or absent")
        if isinstance(self.clipping_norm, bool) or not 0 <= self.clipping_norm < math.inf:
            raise LedgerError("privacy ledger: clipping_norm is a finite number, 0 or more")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a ledger keeps them. A training of this institution alone has no `honest`."""
        return {name: value for name, value in asdict(self).items() if name != "honest" or value is not None}

    @classmethod
    def from_json(cls, fields: object) -> Self:
        """Read the fields as a ledger keeps them, also under the names of earlier versions.

        Raises:
            TypeError, LedgerError: A field is missing, unknown, or cannot be used.
        """
        if not isinstance(fields, Mapping):
            raise TypeError("not an object")
        return cls(**{_EARLIER_NAMES.get(str(name), str(name)): value for name, value in fields.items()})


_EARLIER_NAMES = {"asked_by": "requester", "population": "num_units"}


@dataclass(frozen=True)
class Reservation:
    """The right to train `event` once. `sequence` is its entry in the ledger, of the moment `time` (UTC)."""

    sequence: int
    time: str
    event: DpSgdEvent
    use: ChargeContext


@dataclass(frozen=True)
class Charge:
    """One reservation, and its steps if it was settled (None: it never was, and counts in full)."""

    reservation: Reservation
    steps_done: int | None = None

    @property
    def event(self) -> DpSgdEvent:
        """The steps that count."""
        event = self.reservation.event
        return event if self.steps_done is None else replace(event, steps=self.steps_done)

    @property
    def event_alone(self) -> DpSgdEvent:
        """The same with this institution's own noise alone, as it counts if all others work together."""
        return alone(self.event, self.reservation.use.honest)


def charges(entries: Iterable[Entry]) -> dict[int, Charge]:
    """Fold a ledger's entries: charges by the sequence number of their reservation.

    Raises:
        LedgerError: an unknown entry. It is never skipped.
    """
    folded: dict[int, Charge] = {}
    for entry in entries:
        apply_entry(folded, entry)
    return folded


def read_charges(path: Path, public: PublicKeys) -> tuple[Charge, ...]:
    """Verify, as an auditor does, every signature of the ledger at `path`, without its key or lock, and fold it.

    Raises:
        LedgerError: it does not verify.
    """
    return tuple(charges(verify(path, public, PURPOSE)).values())


def alone(event: DpSgdEvent, honest: int | None) -> DpSgdEvent:
    """Return the mechanism with the noise of one of `honest` institutions that share its variance equally."""
    return event if honest is None else replace(event, noise_multiplier=event.noise_multiplier / math.sqrt(honest))


def spendings(charged: Iterable[Charge]) -> list[Spending]:
    """Return the charges of a ledger as `common.privacy.filter` reads them, oldest first."""
    return [Spending(charge.event, charge.reservation.use.run_steps) for charge in charged]


def spendings_alone(charged: Iterable[Charge]) -> list[Spending]:
    """Return the same with this institution's own noise alone."""
    return [Spending(charge.event_alone, charge.reservation.use.run_steps) for charge in charged]


def counts_others(charged: Iterable[Charge]) -> bool:
    """Return whether a training counts the noise of other institutions."""
    return any(charge.reservation.use.honest is not None for charge in charged)


def unit_of(charged: Iterable[Charge]) -> Unit | None:
    """Return the protected unit, or None before the first private training (one without noise protects nothing)."""
    return next((c.reservation.use.unit for c in charged if c.reservation.event.noise_multiplier), None)


def apply_entry(folded: dict[int, Charge], entry: Entry) -> Charge:
    """Add an entry of a ledger to the charges before it, and return the charge that it makes or settles.

    Raises:
        LedgerError: The entry is unknown. It is never skipped.
    """
    body: Any = entry.body
    try:
        if entry.kind == RESERVED:
            event, use = DpSgdEvent.from_json(body["event"]), ChargeContext.from_json(body["use"])
            if event.noise_multiplier and unit_of(folded.values()) not in (None, use.unit):
                raise KeyError
            sequence, charge = entry.sequence, Charge(Reservation(entry.sequence, entry.time, event, use))
        elif entry.kind == SETTLED and folded[body["reservation"]].steps_done is None:
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

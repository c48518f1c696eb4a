"""Privacy ledger of an institution: one ledger over all runs, charged before the data is touched.

A training is *reserved* (on disk, fsynced) before a gradient exists and *settled* after it with the steps it took.
A reservation that was never settled, because of a crash, a kill or a power cut, counts in full, for ever. So at every
moment the ledger shows at least the spent budget. Other data, another base model, a new run or a reinstalled package
start no new budget: all charges are one sum. A change of the data is recorded and logged.

One ledger protects one unit, records or customers. Neither bounds the other (a customer may have any number of
records, and a record is not a whole customer), so a training for the other unit is refused, never added up.

It has exactly the protection of `common.journal.journal`, whose docstring names the limits.
"""

import logging
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

from common.errors import BudgetExceeded, LedgerError
from common.identity.keys import PrivateKeys
from common.journal.journal import Journal
from common.journal.line_format import Entry
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import (
    PURPOSE,
    RESERVED,
    SETTLED,
    Charge,
    ChargeContext,
    Reservation,
    alone,
    apply_entry,
    charges,
    counts_others,
    spendings,
    spendings_alone,
    unit_of,
)
from common.privacy.filter import Spending, filter_epsilon, fits, is_kept_for_one_mechanism

__all__ = ["PrivacyLedger"]


log = logging.getLogger("fedfin.ledger")


class PrivacyLedger:
    """An open ledger. Use it as a context manager. Safe to share between threads, never between processes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._charges = charges(journal.entries)
        self._mutex = threading.RLock()

    @classmethod
    def open(cls, path: Path, keys: PrivateKeys, *, begun: bool = False) -> Self:
        """Open, or begin, the ledger at `path`, and hold it until `close`.

        begun: an institution's ledger begins with its directory. From then on a missing ledger is a loss, and no
            fresh budget.

        Raises:
            LedgerError: held by another process, edited, cut, of another key, holding an unknown entry, or absent
            although `begun`.
        """
        journal = Journal.open(path, keys, PURPOSE, begun=begun)
        try:
            return cls(journal)
        except BaseException:
            journal.close()
            raise

    def reserve(
        self,
        event: DpSgdEvent,
        use: ChargeContext,
        limit: PrivacyLimit | None,
        limit_alone: PrivacyLimit | None = None,
    ) -> Reservation:
        """Charge `event`. When this returns, the charge survives anything, and the data may be touched.

        `limit`: the highest cost of everything in this ledger and `event`. None sets no limit. Its delta is the
        institution's, whatever the delta of the run. `limit_alone`: the same without the noise of other institutions
        that `use.honest` counts on. None takes `limit`.

        Raises:
            BudgetExceeded: it does not fit, or protects another unit than this ledger. Nothing was written.
            LedgerError: it could not be written. Do not train.
        """
        with self._mutex:
            after, proven = self.check(event, use, limit, limit_alone)
            body = {
                "event": event.to_json(),
                "use": use.to_json(),
                "limit": None if limit is None else asdict(limit),
                "epsilon_after": after,
                "filter_epsilon_after": proven,
            }
            before = next(reversed(self._charges.values()), None)
            entry = self._journal.append(RESERVED, body)
            if before is not None and before.reservation.use.data_fingerprint != use.data_fingerprint:
                log.warning(
                    "the training data changed between entries %d and %d of the ledger: what was spent stays spent",
                    before.reservation.sequence,
                    entry.sequence,
                )
            return self._note(entry).reservation

    def check(
        self,
        event: DpSgdEvent,
        use: ChargeContext,
        limit: PrivacyLimit | None,
        limit_alone: PrivacyLimit | None = None,
    ) -> tuple[float | None, float | None]:
        """Refuse every training that `reserve` would refuse, and charge nothing.

        Returns:
            Epsilon afterwards by privacy-loss distributions, and by the filter. Both are None without a limit.

        Raises:
            BudgetExceeded: The training does not fit, or protects another unit than this ledger.
        """
        with self._mutex:
            self._check_unit(event, use)
            if limit is None:
                return None, None
            found = _fit(spendings(self._charges.values()), Spending(event, use.run_steps), limit, "max_epsilon")
            if use.honest is not None or counts_others(self._charges.values()):
                new = Spending(alone(event, use.honest), use.run_steps)
                _fit(spendings_alone(self._charges.values()), new, limit_alone or limit, "max_epsilon_alone")
            return found

    def settle(self, reservation: Reservation, steps_done: int) -> None:
        """Record how many steps the training took. Only a number below the reserved one changes the charge.

        Why a training ended early must not depend on the data (an operator's stop does not, a loss does).

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
            replace(reservation.event, steps=steps_done)  # refuses an invalid number of steps
            entry = self._journal.append(SETTLED, {"reservation": reservation.sequence, "steps": steps_done})
            self._note(entry)
            if steps_done > reservation.event.steps:
                raise LedgerError(
                    f"entry {reservation.sequence} of the ledger reserved {reservation.event.steps} steps and "
                    f"{steps_done} were taken: all are charged; find out why"
                )

    def spent(self, run_id: str | None = None) -> tuple[DpSgdEvent, ...]:
        """Return the charged events, oldest first, of one run or of all. Unsettled reservations count in full."""
        with self._mutex:
            found = [charge for charge in self._charges.values() if run_id in (None, charge.reservation.use.run_id)]
        return tuple(charge.event for charge in found)

    def epsilon(self, delta: float, run_id: str | None = None) -> float:
        """Return the epsilon of all charges at `delta`, for one unit added or removed."""
        return epsilon(self.spent(run_id), delta)

    def epsilon_alone(self, delta: float, run_id: str | None = None) -> float:
        """Return the same without the noise of other institutions."""
        found = [charge for charge in self.charges if run_id in (None, charge.reservation.use.run_id)]
        return epsilon([charge.event_alone for charge in found], delta)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Return every reservation with its outcome, oldest first."""
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_unit(self, event: DpSgdEvent, use: ChargeContext) -> None:
        other = unit_of(self._charges.values()) or use.unit
        if event.noise_multiplier and other != use.unit:
            raise BudgetExceeded(
                f"this ledger protects each {other} and the training each {use.unit}: one does not bound the other, so "
                f"no epsilon covers both: train with privacy.unit = {other}"
            )

    def _note(self, entry: Entry) -> Charge:
        return apply_entry(self._charges, entry)


def _fit(spent: list[Spending], new: Spending, limit: PrivacyLimit, name: str) -> tuple[float, float]:
    """Return epsilon afterwards by privacy-loss distributions, and by the filter.

    Raises:
        BudgetExceeded: It would pass `limit`, which is called `name` in the settings.
    """
    events = [each.event for each in spent]
    after, proven = epsilon([*events, new.event], limit.delta), filter_epsilon([*events, new.event], limit)
    if fits(spent, new, limit):
        return after, proven
    only = is_kept_for_one_mechanism([*spent, new], limit)
    figure, before = (after, epsilon(events, limit.delta)) if only else (proven, filter_epsilon(events, limit))
    if only and figure <= limit.epsilon:
        raise BudgetExceeded(
            "the ledger's first run spends the whole limit, so only its own noise multiplier and sampling "
            f"probability fit until the limit is raised: take part in that run, or raise limits.{name}"
        )
    without = " if all others work with the hub" if name == "max_epsilon_alone" else ""
    raise BudgetExceeded(
        f"this training would bring epsilon{without} to {figure:.4g} at delta {limit.delta:g}, above the limit "
        f"{limit.epsilon:g} ({before:.4g} is spent{'' if only else ', by the filter'}): ask for fewer steps or "
        "more noise"
    )

"""A verified ledger: its runs, its figures, and the statement of each run. Nothing here writes."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from client.budget.statement import statement
from client.institution.directory import InstitutionDirectory
from client.institution.say import Say
from client.personalisation.record import read_record
from common.errors import ConfigurationError, LedgerError
from common.identity.keys import PublicKeys
from common.journal.journal import verify
from common.journal.line_format import Entry
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import (
    PURPOSE,
    Charge,
    Unit,
    charges,
    counts_others,
    spendings,
    spendings_alone,
    unit_of,
)
from common.privacy.filter import Spending, steps_left
from common.report.privacy_statement import paragraphs
from common.report.statement_record import StatementRecord

__all__ = [
    "LedgerRun",
    "RunStatement",
    "VerifiedLedger",
    "find_run",
    "read_ledger",
    "verify_ledger",
]


@dataclass(frozen=True, kw_only=True)
class LedgerRun:
    """One run in a ledger.

    Attributes:
        requesters, tasks, base_models: Hubs or institutions that asked, tasks, and digests of base models.
        unfinished: Trainings that were charged and never finished. They count in full.
        steps: Steps that count.
        first, last: Times (UTC) of the first and the last training.
        epsilon: Of this run alone, at the ledger's delta. None if the ledger has no delta.
    """

    run_id: str
    requesters: tuple[str, ...]
    tasks: tuple[str, ...]
    base_models: tuple[str, ...]
    rounds: int
    trainings: int
    unfinished: int
    steps: int
    first: str
    last: str
    epsilon: float | None


@dataclass(frozen=True)
class VerifiedLedger:
    """A ledger whose every signature was checked with `public` alone.

    Attributes:
        charges: Every training that was charged, oldest first.
        limit: The privacy officer's limit over all runs. None if there is none, or if only the ledger file is known.
        limit_alone: The same without the assumption of secure aggregation.
    """

    path: Path
    public: PublicKeys
    entries: tuple[Entry, ...]
    charges: tuple[Charge, ...]
    limit: PrivacyLimit | None = None
    limit_alone: PrivacyLimit | None = None

    @property
    def institution(self) -> str:
        """The institution whose key signed the ledger."""
        return self.public.name

    @property
    def unit(self) -> Unit | None:
        """The protected unit. None before the first private training."""
        return unit_of(self.charges)

    @property
    def delta(self) -> float | None:
        """Delta of the limit, else the largest that a run stated. None if there is neither."""
        stated = [charge.reservation.use.delta for charge in self.charges if charge.reservation.use.delta is not None]
        return self.limit.delta if self.limit else max(stated, default=None)

    @property
    def runs(self) -> tuple[LedgerRun, ...]:
        """The runs in the ledger, each by itself, in order of their first training."""
        return tuple(_runs(self.charges, self.delta))

    def epsilon(self, delta: float | None = None, run_id: str | None = None) -> float:
        """Return the epsilon of everything in the ledger together, or of one run.

        Args:
            delta: If None, the ledger's own.
            run_id: If None, all runs.

        Raises:
            ConfigurationError: No delta is given, and the ledger has none.
            LedgerError: There is no such run.
        """
        delta = self.delta if delta is None else delta
        if delta is None:
            raise ConfigurationError(f"{self.path}: no run in it states a delta: give one")
        if run_id is not None:
            find_run(self.charges, run_id)
        return epsilon([c.event for c in self.charges if run_id in (None, c.reservation.use.run_id)], delta)

    def steps_left(self, event: DpSgdEvent | None = None) -> int | None:
        """Return how many more steps like those of `event` the limit allows. None without a limit.

        Args:
            event: The mechanism, with this institution's own noise alone. If None, that of the last private training,
                as it counts with and without the noise of others. The number of steps does not matter.

        Raises:
            ConfigurationError: No event is given, and the ledger has no private training.
        """
        private = [charge for charge in self.charges if charge.event.noise_multiplier]
        if self.limit is None:
            return None
        if event is None and not private:
            raise ConfigurationError(f"{self.path}: it holds no private training yet: give an event")
        with_others, own = (event, event) if event else (private[-1].event, private[-1].event_alone)
        left = steps_left(spendings(self.charges), Spending(with_others), self.limit)
        if not counts_others(self.charges):
            return left
        limit = self.limit_alone or self.limit
        return min(left, steps_left(spendings_alone(self.charges), Spending(own), limit))

    def statement(self, run_id: str | None = None, *, prv: bool = False) -> "RunStatement":
        """Return the privacy statement of run `run_id`, or of the last run. It holds the number of records.

        Args:
            run_id: A name from `runs`.
            prv: Whether to add Opacus' accountant as a third opinion, which takes seconds to load.

        Raises:
            LedgerError: There is no such run.
        """
        name = find_run(self.charges, run_id)
        home = InstitutionDirectory(self.path.parent)
        say, part = Say.read(home.outbox(name)), read_record(home.personal(name))
        made = statement(
            self.charges,
            self.institution,
            name,
            self.limit,
            say=say,
            part=part,
            prv=prv,
            limit_alone=self.limit_alone,
        )
        return RunStatement.of(made)

    def facts(self) -> dict[str, Any]:
        """Facts for an auditor to compare next time: a ledger put back to an earlier state has fewer entries."""
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


@dataclass(frozen=True, kw_only=True)
class RunStatement:
    """The statement of an institution about the privacy of one run, computed from its own ledger.

    Attributes:
        epsilon: Privacy loss of the run, at `delta`. None if a training of the run had no privacy.
        epsilon_all_runs: Privacy loss of the whole ledger, at `delta`.
        steps, noise_multiplier, clipping_norm, sampling_probability: The mechanism. None without privacy.
        noise_source: Where the noise came from. Fixed noise is not private, and this field says so.
        covers, does_not_cover: Scope of the figures and its limits, one sentence each.
        text: The statement in words, a paragraph each.
        record: The whole statement, as `fedfin-institution budget statement --json` prints it.
    """

    institution: str
    run_id: str
    unit: str
    epsilon: float | None
    epsilon_all_runs: float
    delta: float | None
    steps: int | None
    noise_multiplier: float | None
    clipping_norm: float | None
    sampling_probability: float | None
    noise_source: str
    covers: tuple[str, ...]
    does_not_cover: tuple[str, ...]
    text: tuple[str, ...]
    record: Mapping[str, Any]

    @classmethod
    def of(cls, record: StatementRecord) -> Self:
        """Return the figures of `record` and its words."""
        return cls(
            institution=record.institution,
            run_id=record.run_id,
            unit=record.unit,
            noise_source=record.noise_source,
            delta=record.delta,
            steps=record.steps,
            noise_multiplier=record.noise_multiplier,
            clipping_norm=record.clipping_norm,
            sampling_probability=record.sampling_probability,
            epsilon=record.epsilon_run,
            epsilon_all_runs=math.inf if record.epsilon_cumulative is None else record.epsilon_cumulative,
            covers=record.covers,
            does_not_cover=record.does_not_cover,
            text=tuple(paragraphs(record)),
            record=record.to_json(),
        )


def read_ledger(directory: Path | str) -> VerifiedLedger:
    """Read the privacy ledger in an institution's directory, and check every signature. Nothing is written or locked.

    The directory is that of a deployed institution, of one in a simulated run, or the output of a private fine-tuning.

    Raises:
        ConfigurationError: It is none of these.
        LedgerError: The ledger was edited or cut, or another key signed it.
    """
    home = InstitutionDirectory(Path(directory))
    ledger = verify_ledger(home.ledger_path, home.public_keys())
    # A simulated institution and a training alone have a ledger and keys, and no settings file.
    limits = home.settings().limits if home.settings_path.exists() else None
    return ledger if limits is None else replace(ledger, limit=limits.budget, limit_alone=limits.budget_alone)


def verify_ledger(path: Path, public: PublicKeys) -> VerifiedLedger:
    """Check and fold the ledger at `path`. Its holder need not release it.

    Raises:
        LedgerError: absent, edited, cut, of another key, or not understood.
    """
    entries = verify(path, public, PURPOSE)
    return VerifiedLedger(path, public, entries, tuple(charges(entries).values()))


def _runs(found: Sequence[Charge], delta: float | None) -> list[LedgerRun]:
    by_run: dict[str, list[Charge]] = {}
    for charge in found:
        by_run.setdefault(charge.reservation.use.run_id, []).append(charge)
    return [
        LedgerRun(
            run_id=run_id,
            requesters=_distinct(charge.reservation.use.requester for charge in own),
            tasks=_distinct(charge.reservation.use.task for charge in own),
            base_models=_distinct(charge.reservation.use.base_digest for charge in own),
            rounds=len({charge.reservation.use.round for charge in own}),
            trainings=len(own),
            unfinished=sum(charge.steps_done is None for charge in own),
            steps=sum(charge.event.steps for charge in own),
            first=own[0].reservation.time,
            last=own[-1].reservation.time,
            epsilon=None if delta is None else epsilon([charge.event for charge in own], delta),
        )
        for run_id, own in by_run.items()
    ]


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def find_run(found: Sequence[Charge], run_id: str | None) -> str:
    """Return `run_id` if the ledger knows it, or the last run if none is named.

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

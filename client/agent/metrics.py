"""The figures of an institution for Prometheus. They are read from files at each scrape.

They name runs, and say how much of the privacy budget is spent. Every user of the machine can read them, so the port is
off unless `institution.toml` names it. `start` serves them beside the agent, since the node sees no ledger.
"""

import contextlib
import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from client.budget.verified_ledger import VerifiedLedger, read_ledger
from client.institution.directory import InstitutionDirectory
from client.node.connection import clock_ahead, last_seen
from client.node.processes import Part, agent_status, state_path
from common.errors import FedfinError
from common.privacy.charges import spendings
from common.privacy.filter import filter_epsilon, is_kept_for_one_mechanism
from common.processes.metrics import machine_figures
from common.processes.supervisor import running_services

__all__ = ["InstitutionCollector"]

_LATEST_RUNS = 20


class InstitutionCollector(Collector):
    """Reads the state of an institution's processes, of its ledger and of its answers.

    Args:
        home: The institution's directory.
        part: The processes that `start` runs.
    """

    def __init__(self, home: InstitutionDirectory, part: Part) -> None:
        self._home, self._part = home, part
        self._stamp: object = None
        self._budget: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        """Return all figures. A file that cannot be read leaves its figures out."""
        for part in (self._machine, self._hub, self._answers, self._ledger):
            with contextlib.suppress(FedfinError, OSError):
                yield from part()

    def _machine(self) -> Iterator[Metric]:
        days = {self._home.settings().name: self._home.certificate().days_left()}
        services = running_services(state_path(self._home, self._part))
        yield from machine_figures(self._home.directory, services, days)

    def _hub(self) -> Iterator[Metric]:
        if (seen := last_seen(self._home)) is not None:
            yield GaugeMetricFamily("fedfin_hub_seen_seconds", "Seconds since the hub last answered.", value=seen)
        if (ahead := clock_ahead(self._home)) is not None:
            yield GaugeMetricFamily("fedfin_clock_ahead_seconds", "This clock minus the hub's.", value=ahead)

    def _answers(self) -> Iterator[Metric]:
        status = agent_status(self._home)
        answers = CounterMetricFamily(
            "fedfin_answers", "Answers to the hub since the agent began, by kind.", labels=["outcome"]
        )
        for outcome, number in status.get("answers", {}).items():
            answers.add_metric([outcome], number)
        seconds = status.get("seconds", 0.0)
        yield from (answers, CounterMetricFamily("fedfin_answer_seconds", "Duration of all answers.", value=seconds))

    def _ledger(self) -> Iterator[Metric]:
        """Yield the figures of the ledger. They are computed again if it or the limit has changed."""
        files = (self._home.ledger_path, self._home.settings_path)
        stamp = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        if stamp != self._stamp:
            self._budget = list(_budget(read_ledger(self._home.directory)))
            self._stamp = stamp
        yield from self._budget


def _budget(ledger: VerifiedLedger) -> Iterator[Metric]:
    rounds = CounterMetricFamily("fedfin_rounds", "Rounds that were charged to the ledger.", labels=["run"])
    by_run: dict[str, set[int | None]] = {}
    for charge in ledger.charges:
        by_run.setdefault(charge.reservation.use.run_id, set()).add(charge.reservation.use.round)
    for run, charged in list(by_run.items())[-_LATEST_RUNS:]:
        rounds.add_metric([run], len(charged))
    yield rounds
    if ledger.delta is None:
        return
    spent = ledger.epsilon()
    yield GaugeMetricFamily("fedfin_epsilon_spent", "Epsilon of all trainings together.", value=spent)
    if ledger.limit is not None:
        # The figure that decides about the next training.
        if not is_kept_for_one_mechanism(spendings(ledger.charges), ledger.limit):
            spent = filter_epsilon([charge.event for charge in ledger.charges], ledger.limit)
        left = ledger.limit.epsilon - spent if math.isfinite(spent) else 0.0
        yield GaugeMetricFamily("fedfin_epsilon_left", "Epsilon that the limit leaves.", value=max(0.0, left))

"""The figures of a hub for Prometheus. They are read from files at each scrape.

They name institutions and runs. Every user of the machine can read them, so the port is off unless `hub.toml` names it.
"""

import contextlib
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.errors import FedfinError
from common.processes.metrics import machine_figures
from common.processes.supervisor import running_services
from server.hub.directory import HubDirectory
from server.runs.run import Run
from server.runs.status import certificates, institutions, run_status

__all__ = ["HubCollector"]

_LATEST_RUNS = 20


class HubCollector(Collector):
    """Reads the state of a hub, its institutions and its latest runs.

    Args:
        home: The hub's directory.
    """

    def __init__(self, home: HubDirectory) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """Return all figures. A file that cannot be read leaves its figures out."""
        for part in (self._machine, self._institutions, self._runs):
            with contextlib.suppress(FedfinError, OSError):
                yield from part()

    def _machine(self) -> Iterator[Metric]:
        days = {each["name"]: each["days_left"] for each in certificates(self._home)}
        yield from machine_figures(self._home.directory, running_services(self._home.services_path), days)

    def _institutions(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "fedfin_institution_connected", "1 if the institution is connected.", labels=["institution"]
        )
        clock = GaugeMetricFamily(
            "fedfin_institution_clock_ahead_seconds", "Its clock minus the hub's.", labels=["institution"]
        )
        for row in institutions(self._home):
            if row["state"] != "revoked":
                connected.add_metric([row["name"]], float(row["state"] == "connected"))
            if row["clock_ahead_s"] is not None:
                clock.add_metric([row["name"]], row["clock_ahead_s"])
        yield from (connected, clock)

    def _runs(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("fedfin_run_state", "1 for the state that the run is in.", labels=["run", "state"])
        rounds = CounterMetricFamily("fedfin_rounds", "Rounds, with those that missed the quorum.", labels=["run"])
        seconds = CounterMetricFamily("fedfin_round_seconds", "Duration of all rounds.", labels=["run"])
        sent = CounterMetricFamily("fedfin_round_bytes", "Sealed bytes of all rounds.", labels=["run", "direction"])
        outcomes = CounterMetricFamily(
            "fedfin_round_outcomes", "Rounds by outcome.", labels=["run", "institution", "outcome"]
        )
        epsilon = GaugeMetricFamily(
            "fedfin_epsilon", "The institution's own epsilon of the run so far.", labels=["run", "institution"]
        )
        for run in Run.all(self._home)[-_LATEST_RUNS:]:
            state.add_metric([run.name, str(run_status(run)["state"])], 1.0)
            with contextlib.suppress(FedfinError):
                history = run.history()
                rounds.add_metric([run.name], len(history))
                seconds.add_metric([run.name], sum(record.seconds for record in history))
                sent.add_metric([run.name, "up"], sum(record.bytes_up for record in history))
                sent.add_metric([run.name, "down"], sum(record.bytes_down for record in history))
                counts: dict[tuple[str, str], int] = {}
                stated: dict[str, float] = {}
                for record in history:
                    stated |= record.epsilon
                    for pair in record.outcomes.items():
                        counts[pair] = counts.get(pair, 0) + 1
                for (name, outcome), count in sorted(counts.items()):
                    outcomes.add_metric([run.name, name, outcome], count)
                for name, value in sorted(stated.items()):
                    epsilon.add_metric([run.name, name], value)
        yield from (state, rounds, seconds, sent, outcomes, epsilon)

"""The figures of a hub, as Prometheus reads them, and the example alerts on them."""

import contextlib
import json
import re
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from common.errors import ServiceError
from common.files import write_json
from common.processes import metrics
from common.processes.logs import JsonFormatter
from common.processes.metrics import serve_metrics
from common.processes.ports import free_port
from common.report.records import RoundRecord
from server.hub.clocks import ClockWatch
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve
from server.runs.metrics import HubCollector
from tests.metrics_page import figures_of_alerts, names_on, scrape
from tests.server.hub.test_directory import make_request


@pytest.fixture
def figures(tmp_path: Path) -> str:
    """The page of a hub with one institution and a run of two rounds."""
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    approve(home, make_request("north"))
    home.state.mkdir(exist_ok=True)
    ClockWatch(home, lambda: 0.0).observe("north", "1970-01-01T00:02:00+00:00")
    run = home.runs_path / "run-1"
    write_json(run / "run.json", {"run_id": "run-1"})
    records = [
        RoundRecord(round=1, outcomes={"north": "contributed"}, epsilon={"north": 1.5}, bytes_up=10, seconds=2.0),
        RoundRecord(round=2, outcomes={"north": "refused:norm"}, epsilon={}, bytes_up=5, seconds=3.0),
    ]
    write_json(run / "history.json", [record.to_json() for record in records])
    write_json(run / "outcome.json", {"version": 1, "state": "failed", "message": ""})
    services = {"services": [{"name": "gateway", "pid": None, "restarts": 2, "log": ""}], "supervisor": 1}
    write_json(home.services_path, services)
    return scrape(HubCollector(home))


def test_every_figure_is_there(figures: str) -> None:
    for line in (
        'fedfin_service_up{service="gateway"} 0.0',
        'fedfin_service_restarts_total{service="gateway"} 2.0',
        'fedfin_institution_connected{institution="north"} 0.0',
        'fedfin_institution_clock_ahead_seconds{institution="north"} 120.0',
        'fedfin_run_state{run="run-1",state="failed"} 1.0',
        'fedfin_rounds_total{run="run-1"} 2.0',
        'fedfin_round_seconds_total{run="run-1"} 5.0',
        'fedfin_round_bytes_total{direction="up",run="run-1"} 15.0',
        'fedfin_round_outcomes_total{institution="north",outcome="refused:norm",run="run-1"} 1.0',
        'fedfin_epsilon{institution="north",run="run-1"} 1.5',
    ):
        assert line in figures
    for name in ("authority", "server", "north"):
        assert re.search(rf'fedfin_certificate_days{{name="{name}"}} \d', figures)
    assert re.search(r"fedfin_disk_free_bytes [\d.e+]+", figures)


def test_the_example_alerts_use_figures_that_exist(figures: str) -> None:
    used = figures_of_alerts("fedfin-hub")
    assert used
    assert used <= names_on(figures)


def test_connections_of_other_users_fill_the_hubs_process_with_no_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_REQUEST_WITHIN_S", 0.3)
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    port = free_port()
    server, thread = serve_metrics(HubCollector(home), port, home.settings_path)
    before = threading.active_count()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            time.sleep(0.1)
            assert threading.active_count() <= before + 1  # the timer of the one request at work
            with contextlib.suppress(OSError):
                for _ in range(40):  # a byte now and then makes no difference
                    slow.sendall(b"G")
                    time.sleep(0.1)
                pytest.fail("a request without an end is still open after four seconds")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert page.status == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServiceError, match=r"metrics\.port: "):
        serve_metrics(HubCollector(HubDirectory(tmp_path)), taken.getsockname()[1], tmp_path / "hub.toml")


def test_a_line_of_the_log_is_one_json_object() -> None:
    import logging

    record = logging.LogRecord("fedfin.hub", logging.INFO, "", 0, "run %s\nended", ("x",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("INFO", "fedfin.hub", "run x\nended")

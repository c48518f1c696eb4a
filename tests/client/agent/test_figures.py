"""The figures of an institution, as Prometheus reads them, and the example alerts on them."""

import json
import re
import urllib.request
from email.utils import formatdate
from pathlib import Path

import pytest

from client.agent.figures import InstitutionCollector
from client.budget.summary import read_ledger
from client.institution.directory import InstitutionDirectory
from client.node.connection import HubContact
from client.node.processes import state_path
from common.privacy.accounting import DpSgdEvent, PrivacyLimit
from common.privacy.charges import ChargeContext
from common.privacy.filter import filter_epsilon
from common.privacy.ledger import PrivacyLedger
from common.processes.metrics import serve_metrics
from common.processes.ports import free_port
from tests.client.enrolled import enrol

ALERTS = Path(__file__).parents[3] / "deploy" / "prometheus-alerts.yml"
LIMIT = PrivacyLimit(8.0, 1e-6)


def charge(home: InstitutionDirectory, round_: int, event: DpSgdEvent) -> None:
    use = ChargeContext(
        run_id="run-1", round=round_, requester="hub", task="sentiment_analysis", base_digest="b" * 64,
        data_fingerprint="f" * 64, num_units=300, delta=1e-6, clipping_norm=0.5,
    )  # fmt: skip
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.settle(ledger.reserve(event, use, LIMIT), event.steps)


@pytest.fixture
def home(tmp_path: Path) -> InstitutionDirectory:
    home = enrol(tmp_path, limits="max_epsilon = 8.0\ndelta = 1e-6\n").home
    charge(home, 1, DpSgdEvent(2.0, 0.1, 20))
    for directory in (home.state, home.node_state):
        directory.mkdir(exist_ok=True)
    status = {"state": "idle", "answers": {"contribution": 2, "refusal": 1}, "seconds": 4.5}
    home.agent_status_path.write_text(json.dumps(status))
    services = {"services": [{"name": "agent", "pid": None, "restarts": 3, "log": ""}], "supervisor": 1}
    state_path(home, "all").write_text(json.dumps(services))
    HubContact(home.hub_contact_path).answered(refused=False, date=formatdate(usegmt=True))
    return home


def page(home: InstitutionDirectory) -> str:
    port = free_port()
    server, thread = serve_metrics(InstitutionCollector(home, "all"), port, home.settings_path)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as found:
            return str(found.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} ([\d.e+-]+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_every_figure_is_there(home: InstitutionDirectory) -> None:
    found = page(home)
    assert figure(found, 'fedfin_service_up{service="agent"}') == 0
    assert figure(found, 'fedfin_service_restarts_total{service="agent"}') == 3
    assert figure(found, 'fedfin_answers_total{outcome="contribution"}') == 2
    assert figure(found, 'fedfin_answers_total{outcome="refusal"}') == 1
    assert figure(found, "fedfin_answer_seconds_total") == 4.5
    assert figure(found, 'fedfin_rounds_total{run="run-1"}') == 1
    assert figure(found, 'fedfin_certificate_days{name="bank"}') == pytest.approx(30, abs=0.1)
    assert figure(found, "fedfin_disk_free_bytes") > 0
    assert 0 <= figure(found, "fedfin_hub_seen_seconds") < 60


def test_the_epsilon_that_is_spent_and_left_is_that_of_the_ledger_and_follows_it(home: InstitutionDirectory) -> None:
    def spent_and_left() -> tuple[float, float]:
        figures = {family.name: family for family in collector.collect()}
        return figures["fedfin_epsilon_spent"].samples[0].value, figures["fedfin_epsilon_left"].samples[0].value

    collector, left = InstitutionCollector(home, "all"), []
    for round_ in (2, 3):
        ledger = read_ledger(home.directory)
        # What decides about a further training is the filter.
        proven = filter_epsilon([each.event for each in ledger.charges], LIMIT)
        assert spent_and_left() == (ledger.epsilon(), 8.0 - proven)
        left.append(8.0 - proven)
        charge(home, round_, DpSgdEvent(2.0, 0.1, 20))
    assert left[1] < left[0]


def test_a_ledger_that_was_edited_leaves_out_its_figures_alone(home: InstitutionDirectory) -> None:
    home.ledger_path.write_text(home.ledger_path.read_text().replace('"steps":20', '"steps":2'))
    found = page(home)
    assert "fedfin_epsilon_left" not in found
    assert figure(found, 'fedfin_answers_total{outcome="refusal"}') == 1


def test_the_example_alerts_use_figures_that_exist(home: InstitutionDirectory) -> None:
    [own] = [text for text in ALERTS.read_text().split("- name: ") if text.startswith("fedfin-institution")]
    used = set(re.findall(r"fedfin_[a-z_]+", own))
    assert used
    assert used <= set(re.findall(r"^fedfin_[a-z_]+", page(home), re.MULTILINE))

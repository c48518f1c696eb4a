"""The figures of an institution, as Prometheus reads them, and the example alerts on them."""

import json
import math
import re
from email.utils import formatdate
from pathlib import Path

import pytest

from client.agent.metrics import InstitutionCollector
from client.budget.verified_ledger import read_ledger
from client.institution.directory import InstitutionDirectory
from client.node.connection import HubContact
from client.node.processes import state_path
from common.privacy.accounting import DpSgdEvent, PrivacyLimit
from common.privacy.charges import ChargeContext
from common.privacy.filter import filter_epsilon
from common.privacy.ledger import PrivacyLedger
from tests.client.enrolled import enrol
from tests.metrics_page import figures_of_alerts, names_on, scrape

LIMIT = PrivacyLimit(8.0, 1e-6)


def charge(home: InstitutionDirectory, round_: int, event: DpSgdEvent, run_steps: int | None = None) -> None:
    use = ChargeContext(
        run_id="run-1", round=round_, requester="hub", task="sentiment_analysis", base_digest="b" * 64,
        data_fingerprint="f" * 64, num_units=300, delta=1e-6, clipping_norm=0.5,
        run_steps=run_steps,
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


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} ([\d.e+-]+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_every_figure_is_there(home: InstitutionDirectory) -> None:
    found = scrape(InstitutionCollector(home, "all"))
    assert figure(found, 'fedfin_service_up{service="agent"}') == 0
    assert figure(found, 'fedfin_service_restarts_total{service="agent"}') == 3
    assert figure(found, 'fedfin_answers_total{outcome="contribution"}') == 2
    assert figure(found, 'fedfin_answers_total{outcome="refusal"}') == 1
    assert figure(found, "fedfin_answer_seconds_total") == 4.5
    assert figure(found, 'fedfin_rounds_total{run="run-1"}') == 1
    assert figure(found, 'fedfin_certificate_days{name="bank"}') == pytest.approx(30, abs=0.1)
    assert figure(found, "fedfin_disk_free_bytes") > 0
    assert 0 <= figure(found, "fedfin_hub_seen_seconds") < 60


def values(collector: InstitutionCollector) -> dict[str, float]:
    """Return the first value of each figure."""
    return {family.name: family.samples[0].value for family in collector.collect() if family.samples}


def test_a_round_counts_once_however_often_it_is_trained(home: InstitutionDirectory) -> None:
    charge(home, 1, DpSgdEvent(2.0, 0.1, 20))
    assert values(InstitutionCollector(home, "all"))["fedfin_rounds"] == 1
    charge(home, 2, DpSgdEvent(2.0, 0.1, 20))
    assert values(InstitutionCollector(home, "all"))["fedfin_rounds"] == 2


def test_the_epsilon_that_is_spent_and_left_is_that_of_the_ledger_and_follows_it(home: InstitutionDirectory) -> None:
    def spent_and_left() -> tuple[float, float]:
        figures = values(collector)
        return figures["fedfin_epsilon_spent"], figures["fedfin_epsilon_left"]

    collector, left = InstitutionCollector(home, "all"), []
    for round_ in (2, 3):
        ledger = read_ledger(home.directory)
        # What decides about a further training is the filter.
        proven = filter_epsilon([each.event for each in ledger.charges], LIMIT)
        assert spent_and_left() == (ledger.epsilon(), 8.0 - proven)
        left.append(8.0 - proven)
        charge(home, round_, DpSgdEvent(2.0, 0.1, 20))
    assert left[1] < left[0]


def test_a_ledger_that_is_kept_for_one_mechanism_leaves_what_its_own_epsilon_leaves(tmp_path: Path) -> None:
    home = enrol(tmp_path, limits="max_epsilon = 8.0\ndelta = 1e-6\n").home
    charge(home, 1, DpSgdEvent(2.0, 0.1, 20), run_steps=1_000_000)
    found = values(InstitutionCollector(home, "all"))
    assert found["fedfin_epsilon_left"] == 8.0 - found["fedfin_epsilon_spent"]


def test_a_limit_that_was_lowered_below_the_spent_epsilon_leaves_nothing_at_once(home: InstitutionDirectory) -> None:
    collector = InstitutionCollector(home, "all")
    assert values(collector)["fedfin_epsilon_left"] > 0
    home.settings_path.write_text(home.settings_path.read_text().replace("max_epsilon = 8.0", "max_epsilon = 0.125"))
    assert values(collector)["fedfin_epsilon_left"] == 0


def test_after_a_training_without_noise_nothing_is_left(home: InstitutionDirectory) -> None:
    use = ChargeContext(
        run_id="bare", round=1, requester="hub", task="sentiment_analysis", base_digest="b" * 64,
        data_fingerprint="f" * 64, num_units=300, delta=None, clipping_norm=0.0,
    )  # fmt: skip
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.reserve(DpSgdEvent(0.0, 1.0, 5), use, None)
    found = values(InstitutionCollector(home, "all"))
    assert (found["fedfin_epsilon_spent"], found["fedfin_epsilon_left"]) == (math.inf, 0)


def test_a_ledger_that_was_edited_leaves_out_its_figures_alone(home: InstitutionDirectory) -> None:
    home.ledger_path.write_text(home.ledger_path.read_text().replace('"steps":20', '"steps":2'))
    found = scrape(InstitutionCollector(home, "all"))
    assert "fedfin_epsilon_left" not in found
    assert figure(found, 'fedfin_answers_total{outcome="refusal"}') == 1


@pytest.mark.parametrize("written", ['{"seen": 1' + "0" * 400 + "}", "[" * 4000, '{"seen": "x"}', "[]", '{"seen": []}'])
def test_nothing_that_the_node_writes_leaves_out_the_figures_of_the_ledger(
    home: InstitutionDirectory, written: str
) -> None:
    home.hub_contact_path.write_text(written)
    assert values(InstitutionCollector(home, "all"))["fedfin_epsilon_left"] > 0


def test_the_example_alerts_use_figures_that_exist(home: InstitutionDirectory) -> None:
    used = figures_of_alerts("fedfin-institution")
    assert used
    assert used <= names_on(scrape(InstitutionCollector(home, "all")))

"""The ledger never shows less than was spent: not after a kill, not after an edit, not by any order of calls."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.errors import BudgetExceeded, LedgerError
from common.identity.keys import PrivateKeys
from common.journal.journal import Journal
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, calibrate, epsilon
from common.privacy.charges import PURPOSE, ChargeContext, read_charges
from common.privacy.filter import filter_epsilon
from common.privacy.ledger import PrivacyLedger

ROOT = Path(__file__).parents[3]
KEYS = PrivateKeys.generate("bank")
EVENT = DpSgdEvent(1.5, 0.2, 5)


DELTA = 1e-5


def use(**changes):
    given = {"run_id": "run", "round": 1, "requester": "hub", "task": "sentiment_analysis", "base_digest": "b",
             "data_fingerprint": "f", "num_units": 1000, "delta": DELTA, "clipping_norm": 1.0}  # fmt: skip
    return ChargeContext(**given | changes)


def reserve(ledger, event=EVENT, *, max_epsilon=None, **changes):
    return ledger.reserve(event, use(**changes), None if max_epsilon is None else PrivacyLimit(max_epsilon, DELTA))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def test_a_charge_is_on_disk_before_reserve_returns(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reservation = reserve(ledger)
        # Read by someone else, while the ledger is open and the training has not begun.
        (charge,) = read_charges(path, KEYS.public)
        assert charge.event == EVENT
        assert charge.reservation == reservation
        assert ledger.spent() == (EVENT,)


def test_a_settled_training_counts_its_steps_and_an_unsettled_one_counts_in_full_for_ever(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.settle(reserve(ledger), 5)
        ledger.settle(reserve(ledger, round=2), 2)
        reserve(ledger, round=3)
    for _ in range(3):
        with PrivacyLedger.open(path, KEYS) as ledger:
            assert [event.steps for event in ledger.spent()] == [5, 2, 5]
            assert [charge.steps_done for charge in ledger.charges] == [5, 2, None]
            assert ledger.epsilon(1e-5) == epsilon([DpSgdEvent(1.5, 0.2, 12)], 1e-5)


def test_what_does_not_fit_is_refused_and_nothing_is_written(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        limit = epsilon([DpSgdEvent(1.5, 0.2, 10)], 1e-5)
        reserve(ledger, max_epsilon=limit, run_steps=10)
        reserve(ledger, max_epsilon=limit, run_steps=10)
        before = path.read_bytes(), path.with_name("ledger.jsonl.head").read_bytes()
        with pytest.raises(BudgetExceeded, match="above the limit") as refused:
            reserve(ledger, DpSgdEvent(1.5, 0.2, 1), max_epsilon=limit)
        assert refused.value.code == "budget"
        with pytest.raises(BudgetExceeded):
            reserve(ledger, DpSgdEvent(0.0, 0.2, 1), max_epsilon=1e300)
        assert (path.read_bytes(), path.with_name("ledger.jsonl.head").read_bytes()) == before
        assert len(ledger.spent()) == 2


def test_a_calibrated_run_fits_exactly_and_a_repeated_round_does_not(path):
    noise = calibrate(3.0, 1e-5, 0.2, 40)
    with PrivacyLedger.open(path, KEYS) as ledger:
        for number in range(8):
            ledger.settle(reserve(ledger, DpSgdEvent(noise, 0.2, 5), round=number, max_epsilon=3.0, run_steps=40), 5)
        assert ledger.epsilon(1e-5) <= 3.0
        with pytest.raises(BudgetExceeded):
            reserve(ledger, DpSgdEvent(noise, 0.2, 5), round=7, max_epsilon=3.0)


def test_other_data_another_run_and_reopening_start_no_fresh_budget(path):
    limit = epsilon([DpSgdEvent(1.5, 0.2, 5)], 1e-5)
    with PrivacyLedger.open(path, KEYS) as ledger:
        reserve(ledger, run_id="first", data_fingerprint="one", max_epsilon=limit)
    with PrivacyLedger.open(path, KEYS) as ledger:
        with pytest.raises(BudgetExceeded):
            reserve(ledger, run_id="second", data_fingerprint="two", max_epsilon=limit)
        reserve(ledger, run_id="second", data_fingerprint="two")
        assert ledger.spent("first") == ledger.spent("second") == (EVENT,)
        assert ledger.spent() == (EVENT, EVENT)
        assert ledger.epsilon(1e-5, "first") < ledger.epsilon(1e-5)


def test_only_an_open_reservation_of_this_ledger_can_be_settled_and_once(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reservation = reserve(ledger)
        foreign = replace(reservation, use=use(run_id="other"))
        for wrong in (foreign, replace(reservation, sequence=99)):
            with pytest.raises(LedgerError, match="no open reservation"):
                ledger.settle(wrong, 1)
        for steps in (-1, 1.0, True, None):
            with pytest.raises(LedgerError, match="steps"):
                ledger.settle(reservation, steps)
        ledger.settle(reservation, 4)
        with pytest.raises(LedgerError, match="no open reservation"):
            ledger.settle(reservation, 0)
        assert [event.steps for event in ledger.spent()] == [4]


def test_a_reservation_survives_its_process_and_is_settled_by_the_next(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reservation = reserve(ledger)
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.settle(reservation, 3)
        assert [event.steps for event in ledger.spent()] == [3]


def test_more_steps_than_were_reserved_are_charged_and_reported(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        with pytest.raises(LedgerError, match="reserved 5 steps and 9 were taken"):
            ledger.settle(reserve(ledger), 9)
        assert [event.steps for event in ledger.spent()] == [9]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("refunded", {"reservation": 1, "steps": 0}),
        ("settled", {"reservation": 7, "steps": 0}),
        ("settled", {"reservation": 1}),
        ("settled", {"reservation": [1], "steps": 1}),
        ("settled", {"reservation": 1, "steps": -1}),
        ("reserved", {"event": {"kind": "laplace"}, "use": asdict(use())}),
        ("reserved", {"event": EVENT.to_json()}),
        ("reserved", {"event": EVENT.to_json(), "use": asdict(use()) | {"discount": 0.5}}),
        ("reserved", {"event": EVENT.to_json(), "use": asdict(use()) | {"unit": "account"}}),
        ("reserved", {"event": EVENT.to_json(), "use": asdict(use(unit="customer"))}),
    ],
)
def test_an_entry_that_is_not_understood_stops_everything(path, kind, body):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reserve(ledger)
    with Journal.open(path, KEYS, PURPOSE) as journal:
        journal.append(kind, body)
    with pytest.raises(LedgerError):
        PrivacyLedger.open(path, KEYS)
    with pytest.raises(LedgerError):
        read_charges(path, KEYS.public)
    Journal.open(path, KEYS, PURPOSE).close()  # a refused ledger is let go of


def test_a_signed_second_settlement_is_refused_not_believed(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.settle(reserve(ledger), 5)
    with Journal.open(path, KEYS, PURPOSE) as journal:
        journal.append("settled", {"reservation": 1, "steps": 0})
    with pytest.raises(LedgerError, match="not understood"):
        PrivacyLedger.open(path, KEYS)


def test_an_audit_journal_cannot_stand_in_for_a_ledger(path):
    Journal.open(path, KEYS).close()
    with pytest.raises(LedgerError, match="purpose"):
        PrivacyLedger.open(path, KEYS)


def test_the_ledger_holds_what_an_auditor_asks_for(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reserve(ledger, max_epsilon=8.0)
        body = ledger.entries[0].body
    assert body["event"] == EVENT.to_json()
    assert body["limit"] == {"epsilon": 8.0, "delta": DELTA}
    assert body["epsilon_after"] == epsilon([EVENT], DELTA)
    assert body["filter_epsilon_after"] == filter_epsilon([EVENT], PrivacyLimit(8.0, DELTA))
    assert body["use"] == {name: value for name, value in asdict(use()).items() if name != "honest"}


def test_the_limit_is_meant_at_its_own_delta_whatever_the_run_says(path):
    limit = PrivacyLimit(epsilon([EVENT], 1e-6), 1e-6)
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.reserve(EVENT, use(delta=1e-3), limit)
        for delta in (1e-9, 1e-6, 0.5):  # at 0.5 twice the event costs less than the limit allows at 1e-6
            with pytest.raises(BudgetExceeded, match="at delta 1e-06"):
                ledger.reserve(EVENT, use(delta=delta), limit)
        assert epsilon([EVENT, EVENT], 0.5) < limit.epsilon


def test_trainings_for_another_unit_are_never_added_up(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.reserve(DpSgdEvent(0.0, 1.0, 1), use(), None)  # without noise: infinite for every unit
        reserve(ledger, unit="customer")
        before = path.read_bytes()
        with pytest.raises(BudgetExceeded, match=r"protects each customer .* privacy.unit = customer"):
            reserve(ledger, unit="record")
        assert path.read_bytes() == before
        ledger.reserve(DpSgdEvent(0.0, 1.0, 1), use(), None)
        reserve(ledger, unit="customer")


def test_a_change_of_the_data_is_said_once_and_costs_the_same_budget(path, caplog):
    with PrivacyLedger.open(path, KEYS) as ledger:
        reserve(ledger)
        reserve(ledger)
        assert caplog.messages == []
        reserve(ledger, data_fingerprint="g")
        reserve(ledger, data_fingerprint="g")
        assert [m for m in caplog.messages if "changed between entries 2 and 3" in m] == caplog.messages != []
        assert len(ledger.spent()) == 4


def test_a_ledger_of_an_earlier_version_is_read_with_the_names_of_today(path):
    with Journal.open(path, KEYS, PURPOSE) as journal:
        earlier = {"asked_by": "hub", "population": 12}
        new = ("requester", "num_units", "run_steps")
        kept = {name: value for name, value in asdict(use()).items() if name not in new}
        body = {"event": EVENT.to_json(), "use": kept | earlier, "limit": None, "epsilon_after": None}
        journal.append("reserved", body)
    (charge,) = read_charges(path, KEYS.public)
    assert charge.reservation.use == use(num_units=12)
    with PrivacyLedger.open(path, KEYS) as ledger:
        assert ledger.spent() == (EVENT,)


@pytest.mark.parametrize(
    "wrong",
    [{"run_id": ""}, {"requester": "a\nb"}, {"unit": "account"}, {"noise": "none"}, {"round": -1}, {"round": True},
     {"num_units": 1.5}, {"run_steps": -1}, {"run_steps": 1.5},
     {"delta": 0.0}, {"delta": 1}, {"clipping_norm": -1.0}, {"clipping_norm": float("nan")}],
)  # fmt: skip
def test_an_impossible_use_is_refused(wrong):
    with pytest.raises(LedgerError, match="privacy ledger"):
        use(**wrong)


def test_reserving_and_settling_costs_milliseconds(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.settle(reserve(ledger, max_epsilon=50.0), 5)
        start = time.process_time()
        for number in range(20):
            ledger.settle(reserve(ledger, round=number, max_epsilon=50.0), 5)
        assert (time.process_time() - start) / 20 < 0.1


def test_kill_9_at_200_random_moments_never_loses_a_step(tmp_path):
    command = [sys.executable, ROOT / "tests/common/privacy/ledger_under_fire.py", tmp_path, "200", "7"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert sum(hits.values()) == 200
    assert min(hits["reserve"], hits["train"], hits["settle"]) >= 5


def test_on_a_full_disk_no_training_begins_and_no_charge_is_lost(path):
    """Files that may not grow beyond some size stand in for the disk. Then there is room again."""
    charged = 0
    with PrivacyLedger.open(path, KEYS) as ledger:
        reserve(ledger)
        charged += 1
        room = path.stat().st_size * 4 + 100  # the last line is torn
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            for _ in range(50):
                reserve(ledger)
                charged += 1
        except LedgerError as error:
            message = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert 1 < charged < 50
        assert "cannot be written" in message
        with pytest.raises(LedgerError, match="open it again"):
            reserve(ledger)
    with PrivacyLedger.open(path, KEYS) as ledger:
        assert len(ledger.charges) >= charged
        assert ledger.epsilon(DELTA) >= epsilon([EVENT] * charged, DELTA)
        reserve(ledger)
    assert len(read_charges(path, KEYS.public)) >= charged + 1


def test_a_clock_that_was_set_back_starts_no_fresh_budget(path, monkeypatch):
    years = iter([2026, 2001, 2031, 1971])

    class Clock:
        @staticmethod
        def now(zone):
            return datetime(next(years), 1, 1, tzinfo=zone)

    with PrivacyLedger.open(path, KEYS) as ledger:
        monkeypatch.setattr("common.journal.journal.datetime", Clock)
        for _ in range(4):
            reserve(ledger)
    with PrivacyLedger.open(path, KEYS) as ledger:
        assert ledger.epsilon(DELTA) == epsilon([EVENT] * 4, DELTA)
        monkeypatch.undo()
        with pytest.raises(BudgetExceeded):
            reserve(ledger, max_epsilon=epsilon([EVENT] * 5, DELTA) - 1e-3)


def test_one_process_at_a_time_holds_it(path):
    with PrivacyLedger.open(path, KEYS):
        code = (
            "import sys; from pathlib import Path; from common.identity.keys import PrivateKeys; "
            "from common.privacy.ledger import PrivacyLedger; "
            "PrivacyLedger.open(Path(sys.argv[1]), PrivateKeys.generate('bank'))"
        )
        other = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
        assert "held by another process" in other.stderr
        with pytest.raises(LedgerError, match="held by another process"):
            PrivacyLedger.open(path, KEYS)


class AnyOrderOfCalls(RuleBasedStateMachine):
    """Reserve, train, settle, crash, tear and reopen in any order."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "ledger.jsonl"
        self.ledger = PrivacyLedger.open(self.path, KEYS)
        self.taken = {}  # steps really taken, by reservation
        self.open = []

    @rule(steps=st.integers(0, 20), run=st.sampled_from(["a", "b"]))
    def reserve(self, steps, run):
        reservation = reserve(self.ledger, DpSgdEvent(1.0, 0.1, steps), run_id=run, data_fingerprint=run)
        self.taken[reservation] = 0
        self.open.append(reservation)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def train(self, data):
        reservation = data.draw(st.sampled_from(self.open))
        self.taken[reservation] = data.draw(st.integers(self.taken[reservation], reservation.event.steps))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data):
        reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.ledger.settle(reservation, self.taken[reservation])

    @rule(torn=st.binary(max_size=30).filter(lambda tail: b"\n" not in tail))
    def crash(self, torn):
        self.ledger.close()
        with self.path.open("ab") as file:
            file.write(torn)
        self.ledger = PrivacyLedger.open(self.path, KEYS)

    @invariant()
    def nothing_spent_is_missing(self):
        charged = {charge.reservation: charge.event.steps for charge in self.ledger.charges}
        assert charged.keys() == self.taken.keys()
        for reservation, taken in self.taken.items():
            assert taken <= charged[reservation] <= reservation.event.steps
            if reservation in self.open:
                assert charged[reservation] == reservation.event.steps

    def teardown(self):
        self.ledger.close()
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
        self.directory.cleanup()


TestAnyOrderOfCalls = AnyOrderOfCalls.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


def test_noise_that_others_add_counts_in_one_figure_and_not_in_the_other(path):
    with PrivacyLedger.open(path, KEYS) as ledger:
        ledger.reserve(EVENT, use(honest=4), None)
        ledger.reserve(EVENT, use(round=2), None)
        assert ledger.entries[0].body["use"]["honest"] == 4
    with PrivacyLedger.open(path, KEYS) as ledger:
        shared, own = ledger.charges
        assert shared.event_alone == replace(EVENT, noise_multiplier=EVENT.noise_multiplier / 2)
        assert own.event_alone == own.event == EVENT
        assert ledger.epsilon(DELTA) == epsilon([EVENT, EVENT], DELTA)
        assert ledger.epsilon_alone(DELTA) == epsilon([shared.event_alone, EVENT], DELTA) > ledger.epsilon(DELTA)


def test_each_figure_has_a_limit_of_its_own(path):
    cost = epsilon([replace(EVENT, noise_multiplier=EVENT.noise_multiplier / 2)], DELTA)
    limit = PrivacyLimit(1.5 * epsilon([EVENT], DELTA), DELTA)
    with PrivacyLedger.open(path, KEYS) as ledger:
        for alone in (None, PrivacyLimit(0.9 * cost, DELTA)):
            with pytest.raises(BudgetExceeded, match="if all others work with the hub"):
                ledger.reserve(EVENT, use(honest=4), limit, alone)
        assert ledger.charges == ()
        ledger.reserve(EVENT, use(honest=4), limit, PrivacyLimit(1.5 * cost, DELTA))
        # A plain training counts in both as well.
        with pytest.raises(BudgetExceeded):
            ledger.reserve(EVENT, use(round=2), PrivacyLimit(100.0, DELTA), PrivacyLimit(1.01 * cost, DELTA))

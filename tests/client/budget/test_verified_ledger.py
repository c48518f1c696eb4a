"""A ledger read from Python agrees with the officer's commands, in typed values, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest

from client.budget.overview import overview, rows
from client.budget.verified_ledger import read_ledger
from client.institution.directory import InstitutionDirectory
from common.errors import ConfigurationError, LedgerError
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import ChargeContext
from common.privacy.filter import Spending, filter_epsilon, steps_left
from common.privacy.ledger import PrivacyLedger

EVENT = DpSgdEvent(2.0, 0.1, 20)
LIMIT = PrivacyLimit(8.0, 1e-6)


def context(run_id: str, **changes: Any) -> ChargeContext:
    values: dict[str, Any] = {
        "run_id": run_id, "round": 1, "requester": "the hub", "task": "sentiment_analysis", "base_digest": "b" * 64,
        "data_fingerprint": "f" * 64, "num_units": 300, "delta": 1e-6, "clipping_norm": 0.5,
    }  # fmt: skip
    return ChargeContext(**(values | changes))


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """An institution with the template's limit: two rounds of run "first", one unfinished round of run "second"."""
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        for number in (1, 2):
            ledger.settle(ledger.reserve(EVENT, context("first", round=number), LIMIT), 20)
        ledger.reserve(EVENT, context("second"), LIMIT)
    return home.directory


def test_it_says_what_was_spent_by_which_run_and_what_is_left(bank: Path) -> None:
    before = {path: path.read_bytes() for path in bank.rglob("*") if path.is_file()}
    ledger = read_ledger(str(bank))
    assert (ledger.institution, ledger.unit, ledger.limit, ledger.delta) == ("bank", "record", LIMIT, 1e-6)
    first, second = ledger.runs
    assert (first.run_id, first.rounds, first.trainings, first.unfinished, first.steps) == ("first", 2, 2, 0, 40)
    assert (second.run_id, second.trainings, second.unfinished) == ("second", 1, 1)
    assert ledger.epsilon() == epsilon([EVENT] * 3, 1e-6)
    assert ledger.epsilon(1e-5, "first") == epsilon([EVENT] * 2, 1e-5)
    assert first.epsilon == ledger.epsilon(run_id="first")
    assert ledger.steps_left() == steps_left([Spending(EVENT)] * 3, Spending(EVENT), LIMIT)
    assert {path: path.read_bytes() for path in bank.rglob("*") if path.is_file()} == before


def test_its_overview_has_the_same_figures_and_a_row_for_each_training(bank: Path) -> None:
    ledger = read_ledger(bank)
    found = overview(ledger)
    assert (found["epsilon_spent"], found["max_epsilon"]) == (ledger.epsilon(), LIMIT.epsilon)
    assert found["filter_epsilon_spent"] == filter_epsilon([EVENT] * 3, LIMIT)
    assert found["steps_left"] == ledger.steps_left()
    assert [row["steps_charged"] for row in rows(ledger)] == [20, 20, 20]
    assert [row["steps_done"] for row in rows(ledger)] == [20, 20, None]


def test_its_statement_is_typed_and_in_words(bank: Path) -> None:
    statement = read_ledger(bank).statement("first")
    assert (statement.institution, statement.run_id, statement.unit, statement.steps) == ("bank", "first", "record", 40)
    assert statement.epsilon == epsilon([EVENT] * 2, 1e-6)
    assert statement.epsilon_all_runs == epsilon([EVENT] * 3, 1e-6)
    assert statement.record["epsilon_run"] == statement.epsilon
    assert statement.text[0].startswith("Protected is one record")
    assert statement.covers
    assert statement.does_not_cover
    assert read_ledger(bank).statement().run_id == "second"


def test_what_is_not_in_it_is_one_line(bank: Path, tmp_path: Path) -> None:
    ledger = read_ledger(bank)
    for ask in (ledger.statement, lambda run: ledger.epsilon(run_id=run)):
        with pytest.raises(LedgerError, match="run third is not in the ledger: it holds first, second"):
            ask("third")
    with pytest.raises(ConfigurationError, match="not the directory of an institution"):
        read_ledger(tmp_path)
    empty = InstitutionDirectory.create(tmp_path / "new", "new")
    with pytest.raises(ConfigurationError, match="it holds no private training yet: give an event"):
        read_ledger(empty.directory).steps_left()
    assert read_ledger(empty.directory).steps_left(EVENT) == steps_left([], Spending(EVENT), LIMIT)


def test_a_ledger_that_was_edited_is_refused(bank: Path) -> None:
    path = bank / "ledger.jsonl"
    path.write_text(path.read_text().replace('"num_units":300', '"num_units":200'))
    with pytest.raises(LedgerError):
        read_ledger(bank)

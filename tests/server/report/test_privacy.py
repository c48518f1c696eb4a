"""The privacy sections give every institution its ε, its limit and its statement, and say if nothing is protected."""

from typing import Any

import pytest

from common.report.records import ResultRecord, RoundRecord
from common.report.statement_record import StatementRecord
from server.report.privacy import banner, spending, statements
from server.report.run_files import RunFiles

STATEMENT = StatementRecord(
    institution="north",
    unit="record",
    adjacency="add-or-remove-one",
    sampler="Poisson",
    noise_multiplier=1.0,
    clipping_norm=0.5,
    sampling_probability=0.125,
    steps=20,
    delta=1e-5,
    epsilon_run=1.2341,
    epsilon_prv=1.2301,
    epsilon_cumulative=2.5,
    max_epsilon=5.0,
    covers=("every adapter sent to the hub",),
    does_not_cover=("the choice of hyperparameters",),
    noise_source="operating system",
)
FIXED = "fixed seed: NOT PRIVATE"


def run_files(**changes: Any) -> RunFiles:
    """Two rounds of "north" and "south". Only "north" has a statement and a limit."""
    rounds = tuple(
        RoundRecord(round=k, asked=("north", "south"), epsilon={"north": 0.6 * k, "south": 0.5 * k}) for k in (1, 2)
    )
    values: dict[str, Any] = {
        "config": {"privacy": {"mode": "target"}},
        "result": ResultRecord(epsilon={"north": 1.2, "south": 1.0}, delta=1e-5),
        "rounds": rounds,
        "statements": {"north": STATEMENT},
        "limits": {"north": 5.0},
    }
    return RunFiles(**values | changes)


def cells(text: str, first: str) -> list[list[str]]:
    """Return the cells of each table row whose first cell is `first`."""
    rows = [row.split("</tr>")[0] for row in text.split("<tr>")[1:]]
    split = [[cell.split("</td>")[0].partition(">")[2] for cell in row.split("<td")[1:]] for row in rows]
    return [row for row in split if row and row[0] == first]


def test_a_protected_run_has_no_banner() -> None:
    assert banner(run_files()) == ""


@pytest.mark.parametrize("mode", ["mode", "level"])
def test_a_run_without_privacy_has_a_banner_and_claims_no_epsilon(mode: str) -> None:
    run = run_files(config={"privacy": {mode: "none"}})
    assert "No differential privacy" in banner(run)
    text = spending(run)
    assert "there is no ε to report" in text
    assert "<td" not in text
    assert "changes by a factor of at most e^ε" not in statements(run)


def test_fixed_noise_is_an_alarm_that_names_its_institutions() -> None:
    fixed = StatementRecord.from_json("test", STATEMENT.to_json() | {"noise_source": FIXED})
    run = run_files(statements={"north": fixed})
    assert "NOT PRIVATE: fixed noise seed" in banner(run)
    assert "The noise of north was drawn" in banner(run)
    words = statements(run)
    assert f"NOT PRIVATE. Noise: {FIXED}." in words
    assert "With real noise this would be the promise: protected is one record" in words


def test_epsilon_is_given_by_round_and_rounded_up() -> None:
    text = spending(run_files())
    assert cells(text, "1") == [["1", "0.600", "0.500"]]
    assert cells(text, "2") == [["2", "1.200", "1.000"]]


def test_totals_come_from_the_statement_else_from_the_result() -> None:
    text = spending(run_files())
    assert cells(text, "north") == [["north", "1.235", "–", "1.231", "2.500", "5.000", "50 %", "1e-05"]]
    assert cells(text, "south") == [["south", "1.000", "–", "–", "–", "none set", "–", "1e-05"]]


def test_a_limit_is_drawn_if_it_is_near_and_always_in_the_table() -> None:
    near, far = spending(run_files(limits={"north": 2.0})), spending(run_files(limits={"north": 500.0}))
    assert "limit: north" in near
    assert "limit: north" not in far
    assert cells(far, "north")[0][5] == "500.000"


def test_an_institution_without_a_statement_is_promised_nothing() -> None:
    text = statements(run_files())
    south = text.split("<h3>south</h3>")[1].split("</div>")[0]
    assert "No statement was found" in south
    assert "Protected is one" not in south
    assert "Protected is one record" in text.split("<h3>south</h3>")[0]


def test_covered_and_uncovered_risks_are_listed_once_for_equal_statements() -> None:
    same = run_files(statements={"north": STATEMENT, "south": STATEMENT})
    assert statements(same).count("the choice of hyperparameters") == 1
    other = StatementRecord.from_json("test", STATEMENT.to_json() | {"does_not_cover": ["customers"]})
    text = statements(run_files(statements={"north": STATEMENT, "south": other}))
    assert "Not covered (north)" in text
    assert "Not covered (south)" in text


def test_without_statements_the_standing_limits_are_listed() -> None:
    text = statements(run_files(statements={}))
    assert "no amplification is claimed" in text
    assert "several records of one customer are not hidden together" in text

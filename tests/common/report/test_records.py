"""Every reader gets back a run's records, and files of earlier releases are still read."""

import json
from typing import Any

from common.files import json_text
from common.report.records import Baseline, ResultRecord, RoundRecord
from common.report.statement_record import StatementRecord

ROUND = RoundRecord(
    round=2,
    asked=("a", "b"),
    contributed=("a",),
    outcomes={"a": "contributed", "b": "failed:late"},
    metrics={"accuracy": 0.5},
    by_institution={"a": {"accuracy": 0.25}},
    epsilon={"a": 1.5},
    bytes_up=10,
    bytes_down=20,
    seconds=1.25,
    adapter_digest="f" * 64,
    contributions={"a": "0" * 64},
    weights={"a": 1.0},
)


def through_json(value: object) -> Any:
    return json.loads(json_text(value))


def test_a_round_is_read_as_it_was_written() -> None:
    assert RoundRecord.from_json("history.json", through_json(ROUND.to_json())) == ROUND
    assert json.loads(ROUND.text) == through_json(ROUND.to_json())


def test_the_metrics_of_a_result_stand_beside_its_other_keys() -> None:
    result = ResultRecord(
        name="x",
        metrics={"accuracy": 0.75, "risk accuracy": 0.5},
        epsilon={"a": None, "b": 2.0},
        baselines=(Baseline(name="a alone", accuracy=0.5, weighted_f1=0.25, note="n"),),
    )
    written = through_json(result.to_json())
    assert written["accuracy"] == 0.75
    assert written["baselines"] == [
        {"name": "a alone", "accuracy": 0.5, "weighted_f1": 0.25, "epsilon": None, "note": "n", "own": {}}
    ]
    assert ResultRecord.from_json("result.json", written) == result


def test_a_result_of_an_earlier_release_has_no_version_and_is_read() -> None:
    earlier = {"name": "x", "accuracy": 0.5, "rounds": 2, "epsilon": {"a": 1.0}, "baselines": []}
    read = ResultRecord.from_json("result.json", earlier)
    assert (read.metrics, read.rounds, read.epsilon) == ({"accuracy": 0.5}, 2, {"a": 1.0})


def test_fixed_noise_is_seen_in_a_statement() -> None:
    assert StatementRecord(noise_source="fixed seed: NOT PRIVATE").is_fixed_noise
    assert not StatementRecord(noise_source="operating system").is_fixed_noise


def test_statements_of_earlier_releases_are_read_by_their_old_names() -> None:
    earlier = {
        "asked_by": ["hub"],
        "population": 12,
        "delta_times_population": 0.5,
        "adversaries": [{"who": "the hub", "sees": "every adapter", "epsilon_run": 1.0}],
    }
    read = StatementRecord.from_json("statement.json", earlier)
    assert (read.requesters, read.num_units, read.delta_times_num_units) == (("hub",), 12, 0.5)
    assert [(each.name, each.epsilon_run) for each in read.adversaries] == [("the hub", 1.0)]


def test_a_null_under_a_new_name_is_not_replaced_by_the_old_one() -> None:
    value = {"num_units": None, "population": 12}
    assert StatementRecord.from_json("statement.json", value).num_units is None

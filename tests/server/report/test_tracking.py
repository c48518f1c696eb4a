"""The hub's record: what the hub may see, and advice from the metrics of its rounds."""

import json

import pytest

from common.report.records import ResultRecord, RoundRecord
from server.report.run_files import RunFiles
from server.report.tracking import advice_section, advise, tracker_record


def run(*scores: float, metric: str = "weighted_f1") -> RunFiles:
    rounds = tuple(
        RoundRecord(
            round=number,
            asked=("north", "south"),
            contributed=("north",),
            metrics={metric: score},
            epsilon={"north": 0.5 * number},
            bytes_up=100,
            seconds=2.0,
        )
        for number, score in enumerate(scores, start=1)
    )
    return RunFiles(result=ResultRecord(parameters_trained=10, parameters_total=100), rounds=rounds, run_id="desks")


def test_the_record_holds_rounds_and_a_summary_and_nothing_of_an_institutions_rows() -> None:
    content = tracker_record(run(0.6, 0.8, 0.801))
    assert [each["metrics"] for each in content["rounds"]] == [{"weighted_f1": s} for s in (0.6, 0.8, 0.801)]
    summary = content["summary"]
    assert (summary["best_round"], summary["best_value"], summary["bytes_up"], summary["seconds"]) == (3, 0.801, 300, 6)
    assert not any(word in json.dumps(content) for word in ("loss", "examples", "num_units", "steps"))


@pytest.mark.parametrize(
    ("scores", "metric", "advice"),
    [
        ((0.6, 0.7, 0.8), "weighted_f1", ["run.rounds = 6"]),
        ((0.6, 0.8, 0.801), "weighted_f1", []),
        ((0.8, 0.7, 0.7, 0.7, 0.7), "weighted_f1", ["run.rounds = 1"]),
        ((900.0, 500.0), "perplexity", ["run.rounds = 4"]),
        ((500.0, 600.0, 700.0, 800.0, 900.0), "perplexity", ["run.rounds = 1"]),
        ((0.8,), "weighted_f1", []),
        ((), "weighted_f1", []),
    ],
)
def test_the_metrics_of_the_rounds_decide_the_advice(scores: tuple[float, ...], metric: str, advice: list[str]) -> None:
    files = run(*scores, metric=metric)
    assert [each.advice for each in advise(files)] == advice
    assert [each["advice"] for each in tracker_record(files)["recommendations"]] == advice
    assert ("What to change" in advice_section(files)) == bool(advice)

"""The figures of the report come from the result if it has them, else from the rounds."""

from common.report.records import Baseline, ResultRecord, RoundRecord
from server.report.headline import alone, final_metrics, headline, total_bytes
from server.report.run_files import RunFiles

ROUNDS = (
    RoundRecord(round=1, asked=("a", "b"), metrics={"accuracy": 0.5}, bytes_up=10, epsilon={"a": 1.0}),
    RoundRecord(round=2, asked=("a", "b"), bytes_up=20, epsilon={"a": 2.0}),
)


def test_without_a_result_the_last_evaluated_round_and_the_sum_of_the_rounds_count() -> None:
    run = RunFiles(rounds=ROUNDS)
    assert final_metrics(run) == {"accuracy": 0.5}
    assert total_bytes(run, "bytes_up") == 30
    assert total_bytes(RunFiles(), "bytes_up") is None


def test_the_result_comes_first() -> None:
    run = RunFiles(result=ResultRecord(metrics={"accuracy": 0.75}, bytes_up=99), rounds=ROUNDS)
    assert final_metrics(run) == {"accuracy": 0.75}
    assert total_bytes(run, "bytes_up") == 99


def test_only_baselines_of_one_institution_are_rivals_in_the_headline() -> None:
    baselines = (Baseline(name="majority guess", accuracy=0.9), Baseline(name="a alone", accuracy=0.4))
    run = RunFiles(result=ResultRecord(metrics={"accuracy": 0.5}, baselines=baselines), rounds=ROUNDS)
    assert [row.name for row in alone(run)] == ["a alone"]
    assert "10.0 points above the best of them alone (a, 40.0 %)" in headline(run)


def test_a_run_without_evaluation_has_a_headline() -> None:
    assert "The global model has not been evaluated" in headline(RunFiles(rounds=(RoundRecord(round=1, asked=("a",)),)))

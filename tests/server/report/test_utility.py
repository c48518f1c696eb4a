"""The section on utility states the global model's figures beside those of single institutions."""

from common.report.records import Baseline, ResultRecord, RoundRecord
from server.report.run_files import RunFiles
from server.report.utility import utility


def test_a_run_that_was_not_evaluated_claims_nothing() -> None:
    section = utility(RunFiles())
    assert "No round was evaluated." in section
    assert "No baselines were computed" in section


def test_the_federation_stands_last_among_the_baselines_and_is_marked() -> None:
    rounds = (RoundRecord(round=1, metrics={"accuracy": 0.75}),)
    result = ResultRecord(baselines=(Baseline(name="majority guess", accuracy=0.5),))
    section = utility(RunFiles(rounds=rounds, result=result))
    assert section.index("majority guess") < section.index("federation")
    assert "0.750" in section

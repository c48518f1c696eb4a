"""The section on the run states the configuration in the words of the run's own files."""

from common.report.records import ResultRecord
from server.report.run_files import RunFiles
from server.report.what_was_run import what_was_run


def test_the_head_alone_has_no_rank() -> None:
    adapter = {"rank": 8, "alpha": 16, "layers": "none", "trained_factors": "B"}
    section = what_was_run(RunFiles(config={"adapter": adapter}))
    assert "the head alone, no LoRA" in section
    assert "rank 8" not in section


def test_the_factors_that_are_trained_and_their_share_are_stated() -> None:
    adapter = {"rank": 8, "alpha": 16, "layers": "all", "target_modules": "all-linear", "trained_factors": "B"}
    result = ResultRecord(parameters_trained=50, parameters_total=1000)
    section = what_was_run(RunFiles(config={"adapter": adapter}, result=result))
    assert "LoRA, rank 8, alpha 16; on all-linear, layers all; B trained, A frozen" in section
    assert "50 of 1,000 (5.00%)" in section.replace("\u202f", ",")

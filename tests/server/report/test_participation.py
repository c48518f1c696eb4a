"""Each institution that was asked is accounted for in each round."""

from common.report.records import RoundRecord
from server.report.participation import participation
from server.report.run_files import RunFiles


def test_without_a_history_the_section_says_so() -> None:
    assert "No history was found." in participation(RunFiles())


def test_one_that_was_asked_and_did_not_contribute_is_named_with_the_reason() -> None:
    silent = {"a": "contributed", "b": "failed:silent"}
    rounds = (
        RoundRecord(round=1, asked=("a", "b"), contributed=("a", "b"), bytes_up=1_000_000, seconds=1.5),
        RoundRecord(round=2, asked=("a", "b"), contributed=("a",), outcomes=silent, bytes_up=2_000_000, seconds=2.5),
    )
    section = participation(RunFiles(rounds=rounds))
    assert section.count("b failed:silent") == 1
    assert section.count("failed:silent</code></dt>") == 1  # explained below the table
    assert "4.0 s" in section  # of both rounds


def test_one_that_answered_without_being_asked_is_named() -> None:
    record = RoundRecord(
        round=1, asked=("a",), contributed=("a",), outcomes={"a": "contributed", "x": "refused:not_asked"}
    )
    assert "x refused:not_asked" in participation(RunFiles(rounds=(record,)))

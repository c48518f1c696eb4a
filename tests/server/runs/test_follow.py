"""Following a run shows every round once, and ends with the run, with its result or with the way to continue."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import ServiceError
from common.files import write_json
from common.report.records import ResultRecord, RoundRecord
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve
from server.runs.follow import follow
from server.runs.run import FINISHED, STOPPED, Run
from tests.server.hub.test_directory import make_request
from tests.server.runs.test_run import TOML

FIRST = RoundRecord(
    round=1,
    asked=("north", "south"),
    contributed=("north",),
    outcomes={"north": "contributed", "south": "failed:late"},
    metrics={"accuracy": 0.5},
    epsilon={"north": 1.001},
    bytes_up=2_000_000,
    seconds=3.0,
    weights={"north": 1.0},
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    approve(home, make_request("north"))
    (tmp_path / "run.toml").write_text(TOML)
    return Run.create(home, tmp_path / "run.toml")


def shown(text: str) -> str:
    return " ".join(text.split())


def test_every_round_and_the_result_of_a_finished_run_are_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    missed = RoundRecord(round=2, asked=("north",), outcomes={"north": "declined:budget"})
    write_json(run.directory / "history.json", [FIRST.to_json(), missed.to_json()])
    result = ResultRecord(name="two words", metrics={"accuracy": 0.5}, adapter="/adapter", report="/report.html")
    write_json(run.directory / "result.json", result.to_json())
    run.end(FINISHED)
    answer = follow(run)
    assert (answer["run"], answer["state"], answer["accuracy"]) == (run.name, FINISHED, 0.5)
    output = capsys.readouterr()
    lines = shown(output.err)
    assert "round 1: 1 of 2 contributed, accuracy 0.500, largest epsilon 1.01, 2.00 MB up, 3.0 s" in lines
    assert "without south (failed:late)" in lines
    assert "round 2 (quorum missed): 0 of 1 contributed" in lines
    assert "adapter: /adapter" in output.out


def test_a_stopped_run_has_no_result_and_shows_how_to_continue(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.end(STOPPED, "stopped by the operator")
    assert follow(run) == {"run": run.name, "state": STOPPED, "message": "stopped by the operator"}
    assert f"stopped by the operator continue with: fedfin-hub resume {run.name}" in shown(capsys.readouterr().err)


def test_quiet_leaves_standard_output_to_the_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.end(STOPPED)
    follow(run, quiet=True)
    assert capsys.readouterr().out == ""


def test_following_ends_if_the_hub_is_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 3))
    monkeypatch.setattr("server.runs.follow.time.monotonic", lambda: float(next(now)))
    monkeypatch.setattr("server.runs.follow.time.sleep", lambda _: None)
    with pytest.raises(ServiceError, match="the hub is not started: the run goes on after `fedfin-hub start`"):
        follow(run)


def test_the_files_of_an_earlier_release_are_read(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The small files as rev 0.1 wrote them: without version, with text for the id of Flower's run."""
    earlier: dict[str, Any] = {
        "submission.json": {"flower_run": "123", "attempt": 2, "round": 2},
        "progress.json": {"round": 2, "answered": ["north"], "waiting": [], "time": 1.5},
        "outcome.json": {"state": "quorum_missed", "message": "the quorum is 2"},
        "history.json": [FIRST.to_json()],
    }
    for name, value in earlier.items():
        (run.directory / name).write_text(json.dumps(value))
    submission, progress, ending = run.submission(), run.progress(), run.ending()
    assert submission is not None
    assert progress is not None
    assert ending is not None
    assert (submission.flower_run, submission.attempt, progress.answered) == ("123", 2, ("north",))
    assert run.next_round() == 2
    assert follow(run)["message"] == "the quorum is 2"

"""The state of a run follows from its files and its lock, and a damaged file is one line that names it."""

from pathlib import Path

import pytest

from common.errors import CheckpointError
from common.files import write_json
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve
from server.runs.records import Progress
from server.runs.run import FINISHED, STOPPED, Run
from server.runs.status import run_status, status
from tests.server.hub.test_directory import make_request
from tests.server.runs.test_run import TOML


@pytest.fixture
def run(tmp_path: Path) -> Run:
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    approve(home, make_request("north"))
    (tmp_path / "run.toml").write_text(TOML)
    return Run.create(home, tmp_path / "run.toml")


def test_a_run_waits_runs_and_ends(run: Run) -> None:
    write_json(run.directory / "progress.json", Progress(round=1, answered=("a",), waiting=("b",)).to_json())
    assert run_status(run)["state"] == "waiting"
    with run.executing("7"):
        found = run_status(run)
        assert (found["state"], found["answered"], found["waiting"], found["round"]) == ("running", ["a"], ["b"], 1)
    run.end(STOPPED, "stopped by the operator")
    found = run_status(run)
    assert (found["state"], found["answered"], found["message"]) == (STOPPED, [], "stopped by the operator")


def test_a_hub_that_is_not_started_is_described_from_its_files(run: Run) -> None:
    found = status(run.home)
    assert (found["started"], found["address"], found["services"]) == (False, "127.0.0.1:8443", [])
    assert [(row["name"], row["state"]) for row in found["institutions"]] == [("north", "enrolled")]
    assert [row["run"] for row in found["runs"]] == [run.name]


READERS = {
    "outcome.json": Run.ending,
    "submission.json": Run.submission,
    "history.json": Run.history,
    "progress.json": Run.progress,
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line_that_names_it(run: Run, name: str) -> None:
    (run.directory / name).write_text('{"round": ')
    with pytest.raises(CheckpointError) as caught:
        READERS[name](run)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_earlier_release_does_not_hide_the_others(run: Run) -> None:
    """Its configuration has option names that this release does not know."""
    earlier = Run.create(run.home, run.directory / "config.toml")
    config = earlier.directory / "config.toml"
    config.write_text(config.read_text().replace('mode = "high"', 'level = "high"'))
    earlier.end(FINISHED)
    rows = {row["run"]: row for row in status(run.home)["runs"]}
    assert rows[run.name]["state"] == "waiting"
    assert rows[earlier.name]["state"] == FINISHED
    assert "privacy.level is not a known key: use mode" in rows[earlier.name]["message"]
    (earlier.directory / "outcome.json").unlink()
    assert run_status(earlier)["state"] == "unreadable"


def test_a_process_that_writes_its_entry_is_not_an_error(run: Run) -> None:
    (run.directory / "executor.lock").write_text("")
    assert run.executor() is None

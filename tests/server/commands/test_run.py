"""`run`, `resume`, `stop` and `report`: a hub that is not started refuses them in one line, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import ServiceError
from common.files import write_json
from common.journal.journal import verify
from common.report.records import RoundRecord
from server.commands.run import add_report, add_resume, add_run, add_stop
from server.hub.audit_log import HUB_PURPOSE
from server.hub.directory import HubDirectory
from server.runs.records import RunEnding
from server.runs.run import FINISHED, QUORUM, STOPPED, Run
from tests.server.commands.hub_commands import contents, json_of, printed, refusal, run
from tests.server.runs.test_run import FakeControl


@pytest.fixture
def stored(hub: HubDirectory, run_file: Path) -> Run:
    """A run of the hub that was never submitted."""
    return Run.create(hub, run_file)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> FakeControl:
    """The control API of a hub that seems to be started."""
    fake = FakeControl()
    monkeypatch.setattr(HubDirectory, "control", lambda _: fake)
    return fake


def logged(hub: HubDirectory) -> list[str]:
    """Return the kinds of the hub's audit entries after the two enrolments."""
    return [entry.kind for entry in verify(hub.audit_path, hub.keys().public, HUB_PURPOSE)][2:]


def test_run_needs_a_started_hub_and_lays_out_nothing_without(
    hub: HubDirectory, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(hub.directory)
    line = refusal(capsys, add_run, "run", run_file, "--home", hub.directory)
    assert f"the hub is not started: run `fedfin-hub start --home {hub.directory}`" in line
    assert contents(hub.directory) == before
    assert not hub.runs_path.exists()


@pytest.mark.parametrize("ending", [STOPPED, QUORUM])
def test_resume_needs_a_started_hub_and_keeps_the_ending_without(
    hub: HubDirectory, stored: Run, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    stored.end(ending, "as it was")
    before = contents(hub.directory)
    line = refusal(capsys, add_resume, "resume", stored.name, "--home", hub.directory, "--detach")
    assert "the hub is not started" in line
    assert stored.ending() == RunEnding(state=ending, message="as it was")
    assert contents(hub.directory) == before


def test_stop_needs_a_started_hub_and_the_run_goes_on_without(
    hub: HubDirectory, stored: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(hub.directory)
    assert "the hub is not started" in refusal(capsys, add_stop, "stop", stored.name, "--home", hub.directory)
    assert stored.ending() is None
    assert contents(hub.directory) == before


@pytest.mark.parametrize(
    ("add", "command"), [(add_resume, "resume"), (add_stop, "stop"), (add_report, "report")], ids=lambda v: str(v)[:6]
)
def test_an_unknown_run_is_refused_with_the_known_ones(
    hub: HubDirectory, stored: Run, capsys: pytest.CaptureFixture[str], add: Any, command: str
) -> None:
    for name in ("another", "../keys"):
        assert f"choose one of {stored.name}" in refusal(capsys, add, command, name, "--home", hub.directory)


def test_an_absent_configuration_is_named(hub: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent.toml: no such configuration file" in refusal(
        capsys, add_run, "run", "absent.toml", "--home", hub.directory
    )


def test_run_submits_the_file_with_its_changes_and_signs_it_into_the_log(
    hub: HubDirectory, run_file: Path, control: FakeControl, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", run_file, "--name", "spring", "--set", "run.rounds=5", "--home", hub.directory, "--detach")
    assert json_of(capsys, add_run, *arguments) == {"run": "spring", "state": "running"}
    spring = Run.open(hub, "spring")
    assert spring.config()[0].rounds == 5
    submission = spring.submission()
    assert submission is not None
    assert list(control.runs) == [int(submission.flower_run)]
    assert logged(hub) == ["run_created"]


def test_a_run_that_is_not_valid_leaves_no_directory(
    hub: HubDirectory, run_file: Path, control: FakeControl, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(hub.directory)
    changed = ("--set", "aggregation.quorum=3")
    assert "2 institutions that are enrolled" in refusal(
        capsys, add_run, "run", run_file, *changed, "--home", hub.directory
    )
    assert contents(hub.directory) == before
    assert control.runs == {}


def test_run_does_not_write_if_the_superlink_does_not_answer(
    hub: HubDirectory, run_file: Path, control: FakeControl, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def silent() -> list[Any]:
        raise ServiceError("the SuperLink does not answer")

    monkeypatch.setattr(control, "nodes", silent)
    before = contents(hub.directory)
    assert "does not answer" in refusal(capsys, add_run, "run", run_file, "--home", hub.directory)
    assert contents(hub.directory) == before


def test_stop_ends_the_run_and_resume_reopens_it(
    hub: HubDirectory, stored: Run, control: FakeControl, capsys: pytest.CaptureFixture[str]
) -> None:
    words = printed(capsys, add_stop, "stop", stored.name, "--home", hub.directory)
    assert f"run {stored.name} is stopped at round 1" in words
    assert stored.ending() == RunEnding(state=STOPPED, message="stopped by the operator")
    assert "it has ended already (stopped)" in refusal(capsys, add_stop, "stop", stored.name, "--home", hub.directory)
    printed(capsys, add_resume, "resume", stored.name, "--home", hub.directory, "--detach")
    assert stored.ending() is None
    assert len(control.runs) == 1
    assert logged(hub) == ["run_stopped", "run_resumed"]


def test_resuming_a_finished_run_shows_its_result_and_submits_nothing(
    hub: HubDirectory, stored: Run, control: FakeControl, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(stored.directory / "result.json", {"name": "headlines", "accuracy": 0.75})
    stored.end(FINISHED)
    assert run(add_resume, "resume", stored.name, "--home", hub.directory, "--json") == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["state"], record["accuracy"]) == (FINISHED, 0.75)
    assert control.runs == {}


def test_report_is_written_from_the_files_of_an_unfinished_run(
    hub: HubDirectory, stored: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first = RoundRecord(round=1, asked=("north", "south"), contributed=("north",), outcomes={"south": "failed:late"})
    history = stored.directory / "history.json"
    write_json(history, [first.to_json()])
    before = history.read_bytes()
    path = Path(printed(capsys, add_report, "report", stored.name, "--home", hub.directory).strip())
    assert path == stored.directory / "report.html"
    assert "failed:late" in path.read_text()
    assert history.read_bytes() == before

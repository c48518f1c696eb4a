"""`start` needs keys, rows and a package before it starts a process, runs once, and stops at a signal."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.commands import start, status
from client.institution.directory import InstitutionDirectory
from client.node.processes import single_instance_lock
from tests.client.commands.institution_commands import command_line, refusal
from tests.client.enrolled import enrol


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An institution that has joined a hub."""
    return enrol(tmp_path_factory.mktemp("made")).home.directory


@pytest.fixture
def home(made: Path, tmp_path: Path) -> InstitutionDirectory:
    return InstitutionDirectory(shutil.copytree(made, tmp_path / "bank"))


@pytest.fixture(autouse=True)
def restore_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the test process its signal handlers back, and leave it open to inspection."""
    monkeypatch.setattr("common.processes.inspection.forbid_inspection", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts for which services were prepared. No process is started."""
    parts: list[str] = []

    def prepare(_home: object, part: str, _address: str) -> list[object]:
        parts.append(part)
        return []

    monkeypatch.setattr("client.node.processes.services", prepare)
    return parts


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that comes as far as to prepare services fails."""

    def prepare(*_: object) -> None:
        raise AssertionError("services were prepared")

    monkeypatch.setattr("client.node.processes.services", prepare)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(("absent", "named"), [("data", "[data]"), ("keys", "keys"), ("package", "join")])
def test_a_missing_part_is_named_before_anything_is_started(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str], absent: str, named: str
) -> None:
    if absent == "data":
        text = home.settings_path.read_text()
        home.settings_path.write_text(text.replace('[data]\ntrain = "rows.csv"\n', ""))
    else:
        shutil.move({"keys": home.keys_path, "package": home.package_path}[absent], home.directory / "gone")
    assert named in refusal(capsys, start.add, "start", "--home", home.directory)


def test_the_node_alone_needs_neither_rows_nor_keys(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str], started: list[str]
) -> None:
    (home.directory / "rows.csv").unlink()
    shutil.rmtree(home.keys_path)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert command_line(start.add)(["start", "--home", str(home.directory), "--only", "node", "--json"]) == 0
    timer.join()
    assert started == ["node"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stopped"] == str(home.directory)


def test_sigterm_stops_it_and_names_the_round_in_flight(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str], started: list[str]
) -> None:
    state = {"state": "answering", "run": "spring", "round": 3, "step": 5, "steps": 20}
    home.agent_status_path.write_text(json.dumps(state))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert command_line(start.add)(["start", "--home", str(home.directory)]) == 0
    timer.join()
    lines = capsys.readouterr().out.splitlines()
    stopping = "stopping with run spring, round 3 in flight at step 5 of 20: what was charged stays charged"
    assert stopping in lines[-2]
    assert lines[-1].endswith("stopped")
    with single_instance_lock(home.node_state / "node.lock", "this institution"):
        pass


@pytest.mark.usefixtures("nothing_starts")
def test_a_second_start_is_refused(home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with single_instance_lock(home.node_state / "node.lock", "this institution"):
        assert "is running there already" in refusal(capsys, start.add, "start", "--home", home.directory)


def test_status_of_an_institution_that_is_not_started_exits_with_1_and_names_the_command(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(status.add)(["status", "--home", str(home.directory)]) == 1
    words = capsys.readouterr().out
    assert f"nothing runs: fedfin-institution start --home {home.directory}" in words
    assert "not serving" in words
    assert "certificate of bank: 30 days left" in words or "certificate of bank: 29 days left" in words
    assert command_line(status.add)(["status", "--home", str(home.directory), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["institution"], facts["services"], facts["agent_serving"]) == ("bank", [], False)

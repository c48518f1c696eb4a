"""`start` keeps the hub's services until a signal, and `status` tells a started hub from one that is not."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.files import write_json
from server.commands import start, status
from server.hub.directory import HubDirectory
from server.runs.records import Progress
from server.runs.run import Run
from server.runs.status import is_started, starting
from tests.server.commands.hub_commands import contents, json_of, printed, refusal, run


@pytest.fixture(autouse=True)
def restore_signals() -> Iterator[None]:
    """Give the test process its signal handlers and its logging back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = list(logging.getLogger().handlers)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    logging.getLogger().handlers[:] = handlers


def test_a_port_that_is_taken_is_named_and_the_hub_is_not_started(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = hub.settings_path.read_text()
        hub.settings_path.write_text(text.replace('listen = "127.0.0.1:8443"', f'listen = "{address}"'))
        before = contents(hub.directory)
        assert address in refusal(capsys, start.add, "start", "--home", hub.directory)
    assert contents(hub.directory) == before
    assert not is_started(hub)
    assert not hub.superlink_path.exists()


def test_a_second_start_is_refused(hub: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with starting(hub):
        assert "started already: see `fedfin-hub status`" in refusal(
            capsys, start.add, "start", "--home", hub.directory
        )


def test_sigterm_ends_the_start_and_the_hub_can_start_again(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.services.prepare_services", lambda home: [])
    hub.state.mkdir()
    write_json(hub.superlink_path, {"address": "127.0.0.1:1"})
    seen: list[bool] = []

    def look_then_stop() -> None:
        seen.append(is_started(hub))
        os.kill(os.getpid(), signal.SIGTERM)

    for _ in range(2):
        timer = threading.Timer(0.1, look_then_stop)
        timer.start()
        assert run(start.add, "start", "--home", hub.directory) == 0
        timer.join()
    assert seen == [True, True]
    assert not is_started(hub)
    assert not hub.superlink_path.exists(), "no later command looks for a SuperLink that is gone"


def test_the_status_of_a_hub_that_is_not_started_comes_from_its_files(
    hub: HubDirectory, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = Run.create(hub, run_file)
    waiting = Progress(round=1, answered=("north",), waiting=("south",))
    write_json(unfinished.directory / "progress.json", waiting.to_json())
    words = printed(capsys, status.add, "status", "--home", hub.directory)
    for part in (
        f"hub:          not started ({hub.directory})",
        "institutions: 2",
        "north                   enrolled",
        "waiting, round 1 of 2, waiting for south",
    ):
        assert part in words, part
    record = json_of(capsys, status.add, "status", "--home", hub.directory)
    assert (record["started"], record["services"]) == (False, [])
    assert [row["run"] for row in record["runs"]] == [unfinished.name]


def test_status_writes_nothing(hub: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(hub.directory)
    printed(capsys, status.add, "status", "--home", hub.directory)
    assert contents(hub.directory) == before


def test_status_of_a_started_hub_says_so(hub: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with starting(hub):
        assert "hub:          started" in printed(capsys, status.add, "status", "--home", hub.directory)

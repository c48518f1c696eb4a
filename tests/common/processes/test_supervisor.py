"""Processes kept running: real ones, killed for real."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ServiceError
from common.processes.supervisor import Service, Supervisor, running_services


def service(tmp_path: Path, name: str, code: str, **given: object) -> Service:
    return Service(name, (sys.executable, "-c", code), tmp_path, tmp_path / f"{name}.log", **given)


def until(holds: Callable[[], bool], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


SLEEP = "import time; time.sleep(60)"
READY = "open('ready', 'w').close()"
IMPORTS = {"PYTHONPATH": str(Path(__file__).parents[3])}


def test_services_start_in_order_and_end_in_reverse_with_whatever_they_started(tmp_path: Path) -> None:
    said: list[str] = []
    child = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', '{SLEEP}']); "
        f"open('grandchild', 'w').write(str(p.pid)); {SLEEP}"
    )
    first = service(tmp_path, "first", child, ready=(tmp_path / "grandchild").exists)
    supervisor = Supervisor([first, service(tmp_path, "second", SLEEP)], tmp_path / "state.json", said.append)
    supervisor.start()
    assert [(entry["name"], entry["up"]) for entry in running_services(tmp_path / "state.json")] == [
        ("first", True),
        ("second", True),
    ]
    until(lambda: (tmp_path / "grandchild").read_text() != "")
    supervisor.stop()
    assert running_services(tmp_path / "state.json") == []
    assert [line.split()[0] for line in said] == ["first", "second", "second", "first"]
    grandchild = int((tmp_path / "grandchild").read_text())
    until(lambda: not Path(f"/proc/{grandchild}").exists() or "Z" in Path(f"/proc/{grandchild}/stat").read_text())


def test_a_service_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor([service(tmp_path, "one", SLEEP)], tmp_path / "state.json", said.append)
    supervisor.start()
    try:
        before = running_services(tmp_path / "state.json")[0]["pid"]
        os.kill(before, signal.SIGSTOP)
        supervisor.restart("one", "it is silent")

        def is_back() -> bool:
            supervisor.tick()
            now = running_services(tmp_path / "state.json")[0]
            return now["up"] and now["pid"] != before

        until(is_back)
        assert "one is ended and started again: it is silent" in said
    finally:
        supervisor.stop()


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([service(tmp_path, "one", SLEEP)], tmp_path / "state.json", lambda _: None)
    supervisor.start()
    try:
        before = running_services(tmp_path / "state.json")[0]
        os.kill(before["pid"], signal.SIGKILL)

        def is_back() -> bool:
            supervisor.tick()
            now = running_services(tmp_path / "state.json")[0]
            return bool(now["up"]) and now["pid"] != before["pid"] and now["restarts"] == 1

        until(is_back)
    finally:
        supervisor.stop()


def test_a_service_that_keeps_dying_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor([service(tmp_path, "one", "raise SystemExit(3)")], tmp_path / "state.json", said.append)
    supervisor.start()
    try:

        def died_twice() -> bool:
            supervisor.tick()
            return sum("exit code 3" in line for line in said) == 2

        until(died_twice)
    finally:
        supervisor.stop()
    assert [line.rpartition("again in ")[2] for line in said if "exit code 3" in line] == ["1 s", "2 s"]


def test_a_service_that_cannot_start_is_one_error_and_leaves_nothing_running(tmp_path: Path) -> None:
    first = service(tmp_path, "first", f"open('pid', 'w').write(str(__import__('os').getpid())); {SLEEP}",
                    ready=lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")  # fmt: skip
    second = service(tmp_path, "second", "raise SystemExit(1)", ready=lambda: False)
    with pytest.raises(ServiceError, match=r"second did not start \(exit code 1\).*second.log"):
        Supervisor([first, second], tmp_path / "state.json", lambda _: None).start()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    absent = Service("third", ("/no/such/program",), tmp_path, tmp_path / "third.log")
    with pytest.raises(ServiceError, match="is it installed"):
        Supervisor([absent], tmp_path / "state.json", lambda _: None).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_services_end_with_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        code = f"from common.processes.supervisor import end_with_parent; end_with_parent(); {READY}; {SLEEP}"
        started = service(tmp_path, "one", code, ready=(tmp_path / "ready").exists, environment=IMPORTS)
        running = Supervisor([started], tmp_path / "state.json", lambda _: None)
        running.start()
        os.write(writing, b"y")
        time.sleep(60)
    os.read(reading, 1)
    pid = running_services(tmp_path / "state.json")[0]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    assert not any(entry["up"] for entry in running_services(tmp_path / "state.json"))
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_logs_are_the_owners_alone(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [service(tmp_path, "one", "print('said'); " + SLEEP)], tmp_path / "state.json", lambda _: None
    )
    supervisor.start()
    supervisor.stop()
    assert (tmp_path / "one.log").stat().st_mode & 0o777 == 0o600


def test_a_log_keeps_its_size_and_the_latest_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.processes.logs._LARGEST_LOG", 10_000)
    code = "print(*range(20_000), sep=chr(10)); print(b'a byte'.decode() + chr(233), flush=True)"
    supervisor = Supervisor([service(tmp_path, "one", code)], tmp_path / "state.json", lambda _: None)
    supervisor.start()
    until(lambda: (tmp_path / "one.log").exists() and "a byte" in (tmp_path / "one.log").read_text())
    supervisor.stop()
    logs = sorted(tmp_path.glob("one.log*"))
    assert len(logs) == 4
    assert all(path.stat().st_size <= 10_100 for path in logs)
    assert "19999\n" in (tmp_path / "one.log").read_text() + (tmp_path / "one.log.1").read_text()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in logs)


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("private")
    (tmp_path / "one.log").symlink_to(tmp_path / "keys")
    code = f"print('said', flush=True); {READY}; {SLEEP}"
    started = service(tmp_path, "one", code, ready=(tmp_path / "ready").exists)
    supervisor = Supervisor([started], tmp_path / "state.json", lambda _: None)
    supervisor.start()
    supervisor.stop()
    assert (tmp_path / "keys").read_text() == "private"


def test_a_disk_that_is_full_ends_no_process_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    code = f"import sys; [print('x' * 1000) for _ in range(1000)]; sys.stdout.flush(); {READY}; {SLEEP}"
    started = service(tmp_path, "one", code, ready=(tmp_path / "ready").exists)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.processes.supervisor.write_atomic", full)
    monkeypatch.setattr("common.processes.logs.RotatingLog._open", full)
    supervisor = Supervisor([started], tmp_path / "state.json", said.append)
    supervisor.start()
    supervisor.tick()
    supervisor.stop()
    assert any("cannot be written (No space left on device): make room" in line for line in said)


def test_a_service_that_is_started_again_on_a_full_disk_is_shown_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    supervisor = Supervisor([service(tmp_path, "one", SLEEP)], tmp_path / "state.json", said.append)
    supervisor.start()
    try:
        before = running_services(tmp_path / "state.json")[0]

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("common.processes.supervisor.write_atomic", full)
            os.kill(before["pid"], signal.SIGKILL)

            def is_started_again() -> bool:
                supervisor.tick()
                return any(line.startswith("one started") for line in said[1:])

            until(is_started_again)
        assert not running_services(tmp_path / "state.json")[0]["up"]
        supervisor.tick()
        assert running_services(tmp_path / "state.json")[0]["up"]
        assert sum("cannot be written" in line for line in said) == 1
    finally:
        supervisor.stop()

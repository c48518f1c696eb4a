"""Flower is asked for a task only if a process can take it at once, and the task goes through a pipe."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec as superexec
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResultStatus

from server.flower import run_executor as module
from server.flower.run_executor import SpareProcess, run_executor

SPEC = ExecutionSpec(TaskType.SERVER_APP, "127.0.0.1:1", "t0ken", False, "ca.pem", False, 7, True, task_id=1)
TYPES = {TaskType.SERVER_APP}
PROCESS = """
import os, sys, time
from pathlib import Path
directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])
while not (directory / "may-start").exists():
    time.sleep(0.01)
os.write(descriptor, b"\\n")
(directory / "task.json").write_text(sys.stdin.read())
(directory / "arguments.txt").write_text(" ".join(sys.argv))
"""


def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Any]:
    made = run_executor((sys.executable, "-c", PROCESS, str(tmp_path)))
    yield made
    made.close()


def test_no_task_is_taken_before_a_process_can_run_it(tmp_path: Path, executor: Any) -> None:
    time.sleep(0.2)
    assert executor.get_eligible_capacity(TYPES) == (set(), set())
    (tmp_path / "may-start").touch()
    until(lambda: executor.get_eligible_capacity(TYPES) == (TYPES, set()))


def test_the_task_goes_through_the_pipe_and_the_next_process_begins_to_start(tmp_path: Path, executor: Any) -> None:
    (tmp_path / "may-start").touch()
    until(lambda: executor.get_eligible_capacity(TYPES)[0])
    (tmp_path / "may-start").unlink()
    run = executor._spare.process
    assert executor.launch(SPEC).status == LaunchResultStatus.ACCEPTED
    assert executor._runs == [run]
    assert run.wait(30) == 0
    executor.reconcile()
    assert executor._runs == []
    assert json.loads((tmp_path / "task.json").read_text()) == {
        "address": "127.0.0.1:1", "token": "t0ken", "parent_pid": 7
    }  # fmt: skip
    assert "t0ken" not in (tmp_path / "arguments.txt").read_text()
    assert executor.get_eligible_capacity(TYPES) == (set(), set())
    (tmp_path / "may-start").touch()
    until(lambda: executor.get_eligible_capacity(TYPES)[0])


def test_the_secret_of_encrypted_keys_goes_with_the_task_alone(tmp_path: Path) -> None:
    (tmp_path / "may-start").touch()
    executor = run_executor((sys.executable, "-c", PROCESS, str(tmp_path)), b'{"keys": "5ec4e7"}')
    try:
        until(lambda: executor.get_eligible_capacity(TYPES)[0])
        run = executor._spare.process
        executor.launch(SPEC)
        assert run.wait(30) == 0
    finally:
        executor.close()
    assert json.loads(json.loads((tmp_path / "task.json").read_text())["secrets"]) == {"keys": "5ec4e7"}
    assert "5ec4e7" not in (tmp_path / "arguments.txt").read_text()


def test_a_process_that_ends_before_its_task_is_replaced(
    tmp_path: Path, executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "may-start").touch()
    until(lambda: executor.get_eligible_capacity(TYPES)[0])
    executor._spare.process.kill()
    until(lambda: not executor.get_eligible_capacity(TYPES)[0])
    executor.reconcile()
    assert executor._spare.has_ended()  # not at once: one that cannot start must not be started all the time
    monkeypatch.setattr(module, "_START_EVERY_S", 0.0)
    executor.reconcile()
    until(lambda: executor.get_eligible_capacity(TYPES)[0])


def test_a_task_for_a_process_that_has_ended_is_left_to_flower(tmp_path: Path, executor: Any) -> None:
    (tmp_path / "may-start").touch()
    until(lambda: executor.get_eligible_capacity(TYPES)[0])
    executor._spare.process.kill()
    executor._spare.process.wait()
    assert executor.launch(SPEC).status == LaunchResultStatus.FAILED


def test_a_program_that_ends_at_once_is_never_ready() -> None:
    spare = SpareProcess((sys.executable, "-c", ""))
    until(spare.has_ended)
    assert not spare.is_ready()
    spare.end()


def test_a_closed_executor_leaves_no_process(tmp_path: Path) -> None:
    made = run_executor((sys.executable, "-c", PROCESS, str(tmp_path)))
    process: subprocess.Popen[bytes] = made._spare.process
    made.close()
    assert process.returncode is not None


def test_flower_asks_for_capacity_before_each_task() -> None:
    source = Path(superexec.__file__).read_text()
    loop = source[source.index("while True:") :]
    order = [loop.index(call) for call in ("reconcile()", "get_eligible_capacity(", "AcquireTask(", "launch_task(")]
    assert order == sorted(order)

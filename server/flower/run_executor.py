"""Start the process of a run before there is a run, so that Flower hands out no task that waits for imports.

Flower takes a task back from a process that has not answered within 30 s, and offers it again. On a busy machine, where
imports alone take longer, each new process would slow down the others, and no run would ever begin.
"""

import contextlib
import json
import logging
import os
import select
import subprocess
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["SpareProcess", "run_executor", "say_ready"]

log = logging.getLogger("fedfin.hub")

_START_EVERY_S = 5.0
_READY = b"\n"


def say_ready(descriptor: int) -> None:
    """Say, in the process of a run, that its task can be taken at once.

    Args:
        descriptor: The one that the executor gave the process.
    """
    os.write(descriptor, _READY)
    os.close(descriptor)


class SpareProcess:
    """A process that waits for its task on standard input, and says on a pipe of its own when it is ready.

    Args:
        command: Program and arguments. The number of the pipe's descriptor is added as the last one.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._answers, announces = os.pipe()
        try:
            # Its output goes to the executor's own, which has a log.
            self.process = subprocess.Popen((*command, str(announces)), stdin=subprocess.PIPE, pass_fds=(announces,))
        finally:
            os.close(announces)
        self._is_ready = False

    def is_ready(self) -> bool:
        """Return whether a task given now is taken at once. It stays so until the process ends."""
        if not self._is_ready and select.select([self._answers], [], [], 0)[0]:
            self._is_ready = os.read(self._answers, 1) == _READY
        return self._is_ready and not self.has_ended()

    def has_ended(self) -> bool:
        """Return whether the process is no more."""
        return self.process.poll() is not None

    def give(self, task: object) -> None:
        """Hand the process its task as one JSON object. Call it once.

        Raises:
            OSError: The process has ended.
        """
        if self.process.stdin is None:
            raise ValueError("this process has its task")
        with self.process.stdin as file:
            file.write(json.dumps(task).encode())
        self._release()

    def end(self) -> None:
        """End the process, which has no task."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self._release()

    def _release(self) -> None:
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1


def run_executor(command: Sequence[str], secrets: bytes | None = None) -> Any:
    """Return an executor of Flower's tasks that hands each one to a process that is ready, through a pipe.

    Args:
        command: The process of a run, see `SpareProcess`.
        secrets: The result of `hand_over` with the secrets that the process of a run needs, which go with its task.
    """
    from flwr.supercore.superexec.executor import LaunchResult
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

    class RunExecutor(SubprocessExecutor):  # type: ignore[misc]
        def __init__(self) -> None:
            self._runs: list[subprocess.Popen[bytes]] = []
            self._spare = SpareProcess(command)
            self._started = time.monotonic()

        def get_eligible_capacity(self, supported_task_types: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
            return (supported_task_types if self._spare.is_ready() else set()), set()

        def launch(self, spec: Any) -> Any:
            task = {"address": spec.runtime_api_address, "token": spec.token, "parent_pid": spec.parent_pid}
            if secrets is not None:
                task["secrets"] = secrets.decode()
            try:
                self._spare.give(task)
            except OSError as error:
                return LaunchResult.failed(str(error))
            self._runs.append(self._spare.process)
            self._renew()
            return LaunchResult.accepted()

        def reconcile(self) -> None:
            """Reap the processes that have ended, and replace a spare one that did not live to get a task."""
            self._runs = [run for run in self._runs if run.poll() is None]
            if self._spare.has_ended() and time.monotonic() - self._started > _START_EVERY_S:
                log.error("the process of the next run ended before it had one: another is started")
                self._spare.end()
                self._renew()

        def close(self) -> None:
            self._spare.end()

        def _renew(self) -> None:
            self._spare, self._started = SpareProcess(command), time.monotonic()

    return RunExecutor()

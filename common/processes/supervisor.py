"""Keep a few processes running: start them in order, restart those that die, end them in reverse.

Each is a session of its own with its own log, so that a Ctrl-C in the terminal reaches only the supervisor, which then
ends them one by one. A process that calls `end_with_parent` ends with it even by `kill -9`, if the kernel can (Linux).
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import ServiceError
from common.files import write_atomic
from common.processes.logs import copy_to_log

__all__ = ["Service", "Supervisor", "end_with_parent", "running_services"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_SETTLED_S = 30.0
_READY_WITHIN_S = 300.0
_END_WITHIN_S = 10.0
_LOG_WITHIN_S = 2.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Service:
    """One process to keep running.

    Attributes:
        command: program and arguments, never a secret, since everybody on the machine can read them.
        directory: the working directory. Not a checkout, because Flower would import modules from there.
        log: its output, appended. See `RotatingLog`.
        environment: on top of the supervisor's own.
        ready: when given, `start` waits until it says yes, and fails when the process ends before.
        given: its standard input, at most 4096 bytes, at every start. It may hold secrets.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    given: bytes | None = field(default=None, repr=False)


@dataclass
class _Child:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    restarts: int = 0
    pause: float = _FIRST_PAUSE_S
    due: float = 0.0
    copying: threading.Thread | None = None


class Supervisor:
    """Runs `services`. All methods belong to one thread: the death of that thread ends them.

    Args:
        state: a file with the running services, for `running_services`.
        say: told in a line whenever a process begins, ends or is to be restarted.
        given_up: called while `start` waits. If it returns True, `start` fails.
    """

    def __init__(
        self,
        services: Sequence[Service],
        state: Path,
        say: Callable[[str], None],
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._children = [_Child(service) for service in services]
        self._state, self._say, self._given_up = state, say, given_up
        self._is_state_written = True

    def start(self) -> None:
        """Start all services in order. Each is ready before the next begins.

        Raises:
            ServiceError: one ended, or was not ready in time. Those already started are ended again.
        """
        try:
            for child in self._children:
                self._launch(child)
                self._await_ready(child)
        except BaseException:
            self.stop()
            raise

    def tick(self) -> None:
        """Restart services that have died, after a pause that grows while one keeps dying. Call this about twice a
        second.

        If the file of the running services could not be written, it is written as soon as there is room.
        """
        now = time.monotonic()
        for child in self._children:
            process = child.process
            if process is not None and process.poll() is not None:
                # Processes that it left behind in its session end with it.
                _signal_group(process, signal.SIGKILL)
                child.pause = _FIRST_PAUSE_S if now - child.since > _SETTLED_S else child.pause * 2
                child.pause = min(child.pause, _LONGEST_PAUSE_S)
                child.process, child.due = None, now + child.pause
                self._say(f"{child.service.name} ended ({_ending(process)}): again in {child.pause:.0f} s")
                self._write_state()
            if child.process is None and now >= child.due:
                child.restarts += 1
                try:
                    self._launch(child)
                except ServiceError as error:
                    child.pause = min(child.pause * 2, _LONGEST_PAUSE_S)
                    child.due = now + child.pause
                    self._say(str(error))
        if not self._is_state_written:
            self._write_state()

    def restart(self, name: str, reason: str) -> None:
        """End a service that is up but does not work. `tick` starts it again."""
        for child in self._children:
            if child.service.name == name and child.process is not None:
                self._say(f"{name} is ended and started again: {reason}")
                _signal_group(child.process, signal.SIGKILL)

    def stop(self) -> None:
        """End all, last one first: asked to (SIGTERM), and after ten seconds made to (SIGKILL)."""
        for child in reversed(self._children):
            if child.process is not None:
                self._say(f"{child.service.name} is ending")
                _end(child)
        self._state.unlink(missing_ok=True)

    def _launch(self, child: _Child) -> None:
        service = child.service
        try:
            service.log.parent.mkdir(parents=True, exist_ok=True)
            child.process = subprocess.Popen(
                service.command,
                cwd=service.directory,
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL if service.given is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServiceError(
                f"{service.name}: {service.command[0]} cannot be started ({error.strerror}): is it installed?"
            ) from None
        if child.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), child.process.stdin as pipe:
                pipe.write(service.given or b"")
        if child.process.stdout is not None:
            child.copying = copy_to_log(child.process.stdout, service.log)
        child.since = time.monotonic()
        self._say(f"{service.name} started (process {child.process.pid})")
        self._write_state()

    def _await_ready(self, child: _Child) -> None:
        service, process = child.service, child.process
        if service.ready is None or process is None:
            return
        while not service.ready():
            if process.poll() is not None:
                raise ServiceError(f"{service.name} did not start ({_ending(process)}): see the end of {service.log}")
            if self._given_up() or time.monotonic() - child.since > _READY_WITHIN_S:
                raise ServiceError(f"{service.name} does not answer: see the end of {service.log}")
            time.sleep(0.1)

    def _write_state(self) -> None:
        services = [
            {
                "name": child.service.name,
                "pid": child.process.pid if child.process else None,
                "restarts": child.restarts,
                "log": str(child.service.log),
            }
            for child in self._children
        ]
        value = {"supervisor": os.getpid(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            write_atomic(self._state, json.dumps(value | {"services": services}).encode(), mode=0o600)
        except OSError as error:  # it only informs: a full disk must not end the processes
            if self._is_state_written:
                self._say(f"{self._state}: cannot be written ({error.strerror}): make room")
            self._is_state_written = False
        else:
            self._is_state_written = True


def running_services(state: Path) -> list[dict[str, Any]]:
    """Return `name`, `pid`, `up`, `restarts` and `log` of each service under a supervisor. The list is empty if there
    is no supervisor.

    A killed supervisor leaves its file behind. Then no service counts as up.
    """
    try:
        value = json.loads(state.read_bytes())
        services = [dict(entry) for entry in value["services"]]
        alive = _is_alive(int(value["supervisor"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry | {"up": alive and entry["pid"] is not None and _is_alive(entry["pid"])} for entry in services]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie that nobody has waited for yet takes signals, too.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def end_with_parent() -> None:
    """Let the kernel end this process with the one that started it. Call it first in a process of a `Service`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: _Child) -> None:
    process = child.process
    if process is None:
        return
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_WITHIN_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()
    child.process = None
    if child.copying is not None:
        child.copying.join(_LOG_WITHIN_S)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"

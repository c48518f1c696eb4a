"""The agent as a process of its own: `Agent.handle` over a Unix socket (0600), with gRPC's standard health service.

It is the only process of an institution that opens keys, rows, ledger and base model. One training at a time: a
second question waits for its turn, because most often it is the first one asked again, and then the answer is in the
outbox and costs nothing. A question whose asker has gone by then is dropped before anything is done for it.
"""

import contextlib
import json
import logging
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client.institution.paths import MAX_SOCKET_PATH
from client.institution.sharing import is_shared
from common.canonical import AGENT_METHOD, MAX_SEALED_BYTES
from common.errors import ConfigurationError, EnvelopeError, MessageError, TokenError
from common.events import Observer, StepEvent, Stopping
from common.files import write_atomic
from common.protocol.envelope import peek

__all__ = ["AgentService", "serve"]

log = logging.getLogger("fedfin.institution")

WAITING = 4  # questions that may wait beside the one at work
_THREADS = WAITING + 4  # the health service answers whatever waits
_TELL_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.5


class AgentService(Observer):
    """Answers one question at a time, and reports its progress in the log and in the `progress` file.

    Args:
        handle: `Agent.handle`.
        progress: a small JSON file for `fedfin-institution status`, with the same facts as the log, and the totals of
            this process: answers by kind of message, or by what came instead of one, and their seconds.
    """

    def __init__(self, handle: Callable[[bytes], bytes], progress: Path) -> None:
        self._handle, self._progress = handle, progress
        self._turn, self._places = threading.Lock(), threading.BoundedSemaphore(1 + WAITING)
        self._stopping, self._idle = threading.Event(), threading.Event()
        self._idle.set()
        self._at: dict[str, Any] = {"state": "idle"}
        self._outcomes, self._seconds = Counter[str](), 0.0
        self._told = 0.0
        self._tell()

    def answer(self, sealed: bytes, call: grpc.ServicerContext) -> bytes:
        """The gRPC method. An error becomes a status code. Its reason stays in the agent's own log."""
        if not self._places.acquire(blocking=False):
            call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        try:
            with self._turn:
                if not call.is_active() or self._stopping.is_set():
                    call.abort(grpc.StatusCode.CANCELLED, "gone")
                status, answer = self._at_work(sealed)
        finally:
            self._places.release()
        if status is not grpc.StatusCode.OK:
            call.abort(status, status.name.lower())
        return answer

    def on_step(self, event: StepEvent) -> None:
        """Note the progress of a training. This is also the place where a training lets itself be stopped.

        Raises:
            Stopping: `stop` was called. The charge remains.
        """
        if self._stopping.is_set():
            raise Stopping
        done, total = event.step, event.steps
        self._at |= {"step": done, "steps": total}
        if done == total or time.monotonic() - self._told >= _TELL_SECONDS:
            log.info("%s: step %d of %d", self._place(), done, total)
            self._tell()

    def stop(self) -> None:
        """Take no more questions, and end the training that is under way at its next step."""
        self._stopping.set()
        if self._at["state"] != "idle":
            step = f" at step {self._at['step']} of {self._at['steps']}" if "step" in self._at else ""
            log.warning("stopping: %s in flight%s; what was charged stays charged", self._place(), step)

    def give_way(self) -> None:
        """Wait as long as a question is at work. Work in the background calls this several times a second.

        Raises:
            Stopping: `stop` was called.
        """
        while not self._idle.wait(_LOOK_AGAIN_SECONDS) and not self._stopping.is_set():
            pass
        if self._stopping.is_set():
            raise Stopping

    def wait_until_idle(self) -> None:
        """Return when nothing is under way."""
        with self._turn:
            self._at = {"state": "stopped"}
            self._tell()

    def _at_work(self, sealed: bytes) -> tuple[grpc.StatusCode, bytes]:
        begun, outcome = time.monotonic(), "error"
        try:
            claimed = peek(sealed)
            self._idle.clear()
            self._at = {"state": "answering", "run": claimed.run_id, "round": claimed.round, "since": time.time()}
            log.info("%s: asked", self._place())
            self._tell()
            answer = self._handle(sealed)
            outcome = "answered"
            with contextlib.suppress(EnvelopeError):
                outcome = peek(answer).kind
            log.info("%s: answered after %.1f s", self._place(), time.monotonic() - begun)
        except (EnvelopeError, MessageError) as error:
            outcome = "not_answered"
            log.warning("a question was not answered: %s", error)
            return grpc.StatusCode.INVALID_ARGUMENT, b""
        except Stopping:
            outcome = "stopped"
            return grpc.StatusCode.CANCELLED, b""
        except TokenError as error:
            log.error("%s: not answered: %s", self._place(), error)
            return grpc.StatusCode.INTERNAL, b""
        except Exception as error:
            # Place and type of the error, without its text, which may quote private values.
            trace = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s: failed with %s\n%s", self._place(), type(error).__name__, trace)
            return grpc.StatusCode.INTERNAL, b""
        finally:
            self._outcomes[outcome] += 1
            self._seconds += time.monotonic() - begun
            self._at = {"state": "idle"}
            self._idle.set()
            self._tell()
        return grpc.StatusCode.OK, answer

    def _place(self) -> str:
        return f"run {self._at['run']}, round {self._at['round']}"

    def _tell(self) -> None:
        self._told = time.monotonic()
        totals = {"answers": dict(self._outcomes), "seconds": self._seconds}
        status = json.dumps({"pid": os.getpid(), "at": time.time(), **totals, **self._at})
        write_atomic(self._progress, status.encode(), mode=0o600, sync=False)


def serve(service: AgentService, socket: Path) -> tuple[grpc.Server, health.HealthServicer]:
    """Listen on `socket`, for this user alone, or also for the node's group if its directory is shared with it.

    `fedfin.Agent` is healthy from now on.

    Raises:
        ConfigurationError: the path is too long for a socket, or cannot be made.
    """
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise ConfigurationError(f"{socket}: too long for a socket: keep the institution's directory nearer to /")
    handler = grpc.unary_unary_rpc_method_handler(service.answer)
    name, method = AGENT_METHOD.strip("/").split("/")
    options = [("grpc.max_receive_message_length", MAX_SEALED_BYTES), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(_THREADS, thread_name_prefix="agent"), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {method: handler}),))
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    before = os.umask(0o117 if is_shared(socket.parent) else 0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError:
        raise ConfigurationError(f"{socket}: no socket can be made there: check who owns its directory") from None
    finally:
        os.umask(before)
    server.start()
    for each in ("", name):
        checks.set(each, health_pb2.HealthCheckResponse.SERVING)
    return server, checks

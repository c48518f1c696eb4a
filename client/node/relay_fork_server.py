"""Run relays without their start-up time: load Flower once, and fork for every message.

Flower starts a new interpreter for every message, which costs more processor time than all else that a round does
beyond training. This process loads Flower's client process, then reads a line of JSON for each task from its standard
input and runs Flower's own client process in a fork of itself. A relay is still a process of its own, which dies with
its message. The task's token stays off every command line.

A relay runs the approved bundle or nothing: it holds the run and the bundle that the SuperNode hands it against the
bundle that is installed here, before any of its code is loaded. It does not unpack it: the node does so when it starts
(`client.node.approved_bundle.install_bundle`), read-only. Flower's own client unpacks hundreds of files for every
message.

It runs as a script, not as a module, and imports nothing of this package: in a fork, `client` and `common` must come
from the app bundle that Flower installs.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import grpc  # noqa: F401 - loaded for the relays. It is not used before a fork
import httpcore  # noqa: F401 - the same
import httpx
from flwr import clientapp  # noqa: F401 - the same
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp

__all__ = ["approved_input", "client_over", "main"]

_TIMEOUT_SECONDS = 30.0


def client_over(socket: str) -> type[Any]:
    """Return Flower's client of a SuperNode that listens on a Unix socket. No proxy of the environment is used."""

    class UnixClient(RuntimeHttpClient):  # type: ignore[misc]
        @classmethod
        def from_server_address(cls, *_: object, interceptors: Any, retry_invoker: Any = None, **__: object) -> Any:
            client = cls("http://supernode", interceptors=interceptors, retry_invoker=retry_invoker)
            client._client.close()
            # Plain HTTP on a Unix socket: no certificates are loaded.
            transport = httpx.HTTPTransport(uds=socket, verify=False)
            client._client = httpx.Client(transport=transport, timeout=_TIMEOUT_SECONDS)
            return client

    return UnixClient


def approved_input(pull: Callable[[Any], Any], approved: Sequence[str]) -> Callable[[Any], Any]:
    """Wrap Flower's `pull_task_input`, and end the task if it is not of the approved bundle.

    Args:
        pull: Flower's function. It returns message, context, run and bundle.
        approved: Flower's id, version and SHA-256 of the only bundle that may run.
    """

    def pull_approved(client: Any) -> Any:
        message, context, run, fab = pull(client)
        hashes = {run.fab_hash, fab.hash_str, hashlib.sha256(fab.content).hexdigest()}
        if (run.fab_id, run.fab_version, hashes) != (*approved[:2], {approved[2]}):
            raise PermissionError("refused: the task is of another app bundle than is installed here")
        return message, context, run, fab

    return pull_approved


def main() -> None:
    """Read tasks until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes the forks that ended
    # See `shorten_pull_backoff` in common/flower/internals.py for the reason.
    inflatable_utils.pull_and_inflate_object_from_tree.__kwdefaults__["initial_backoff"] = 0.1
    for line in sys.stdin:
        if os.fork() == 0:
            _relay(**json.loads(line))


def _relay(socket: str, approved: Sequence[str], token: str, parent_pid: int) -> None:
    """Run Flower's client process for one message. It never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        run_clientapp.RuntimeHttpClient = client_over(socket)
        run_clientapp.pull_task_input = approved_input(run_clientapp.pull_task_input, approved)
        run_clientapp.install_from_fab = lambda *_, **__: None
        run_clientapp.run_clientapp("supernode", token, insecure=True, parent_pid=parent_pid)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

"""Run relays without their start-up time: load Flower once, and fork for every message.

Flower starts a new interpreter for every message, which costs more processor time than all else that a round does
beyond training. This process loads Flower's client process, then reads a line of JSON for each task from its standard
input and runs Flower's own client process in a fork of itself. A relay is still a process of its own, which dies with
its message. The task's token stays off every command line.

It runs as a script, not as a module, and imports nothing of this package: in a fork, `client` and `common` must come
from the app bundle that Flower installs.
"""

import json
import os
import signal
import sys

import grpc  # noqa: F401 - loaded for the relays. It is not used before a fork
from flwr import clientapp  # noqa: F401 - the same
from flwr.supercore.inflatable import inflatable_utils
from flwr.supernode.runtime.run_clientapp import run_clientapp

__all__ = ["main"]


def main() -> None:
    """Read tasks until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes the forks that ended
    # See `shorten_pull_backoff` in common/flower/internals.py for the reason.
    inflatable_utils.pull_and_inflate_object_from_tree.__kwdefaults__["initial_backoff"] = 0.1
    for line in sys.stdin:
        if os.fork() == 0:
            _relay(json.loads(line))


def _relay(task: dict[str, object]) -> None:
    """Run Flower's client process for one message. It never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        run_clientapp(**task)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

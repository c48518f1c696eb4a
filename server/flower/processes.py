"""Run the hub's parts of Flower, SuperLink, SuperExec and the process of a run, with fewer rights than Flower gives.

Flower lets every process of the machine that reaches its port start and control runs, writes the token of a run on a
command line, and runs every app that it is sent. Here the parts prove themselves to each other by the identity of this
start (`HubDirectory.loopback`), the token goes through a pipe, and only the app that is installed here is run.
Each process is `python -P -m server.flower.processes PART DIR`. The contract tests of the private parts of Flower that
are used are in `tests/server/flower/test_processes.py`.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import Any

from common.errors import FedfinError, ServiceError
from common.flower.bundle import bundle_sha256
from common.flower.internals import prove_clients, prove_servers
from common.identity.keyring import hand_over, receive, remember_given
from common.processes.inspection import forbid_inspection
from common.processes.supervisor import end_with_parent
from server.flower.run_executor import run_executor, say_ready
from server.hub.clocks import MOST_S
from server.hub.directory import HubDirectory
from server.hub.paths import Slot

__all__ = ["approved_only", "main", "run_serverapp", "run_superexec", "run_superlink"]

_LATENCY_S = 5.0
_MODULE = "server.flower.processes"


def approved_only(install: Callable[..., Path]) -> Callable[..., Path]:
    """Wrap Flower's `install_from_fab`, and refuse every app but the one of this installation before it is unpacked.

    Args:
        install: Flower's function.
    """

    def install_approved(content: bytes, **given: Any) -> Path:
        if hashlib.sha256(content).hexdigest() != bundle_sha256():
            raise ServiceError("this run is of another app bundle than is installed at the hub: it is not run")
        return install(content, **given)

    return install_approved


def run_superlink(home: HubDirectory, port: int) -> None:
    """Run Flower's `flower-superlink` on loopback until it is ended. It takes no client without this start's identity.

    Args:
        home: The hub's directory.
        port: Port on loopback.
    """
    from flwr.superlink.cli import flower_superlink

    node_auth: Any = import_module("flwr.superlink.routers.fleet.node_auth")
    node_auth.SYSTEM_TIME_TOLERANCE = MOST_S + _LATENCY_S  # Flower takes a clock that is 5 s ahead
    prove_servers(home.loopback.server())
    state = home.state
    sys.argv = [
        "flower-superlink",
        *("--host", "127.0.0.1", "--port", str(port), "--isolation", "process", "--enable-supernode-auth"),
        *("--ssl-certfile", str(state / "loopback.pem"), "--ssl-keyfile", str(state / "loopback.key")),
        *("--ssl-ca-certfile", str(state / "loopback.pem"), "--database", str(state / "superlink.db")),
        *("--superexec-auth-secret-file", str(state / "superexec.secret")),
        "--disable-runtime-dependency-installation",
    ]
    flower_superlink()


def run_superexec(home: HubDirectory, port: int) -> None:
    """Run Flower's `flower-superexec` for the SuperLink at `port`. It takes runs and no other kind of task."""
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec import run_superexec as superexec
    from flwr.supercore.superexec.plugin import AutoExecPlugin

    prove_clients(home.loopback.client)
    AutoExecPlugin.supported_task_types = frozenset({TaskType.SERVER_APP})
    command = (sys.executable, "-P", "-m", _MODULE, "serverapp", str(home.directory))
    superexec.get_executor = lambda *_, **__: run_executor(command, hand_over(home.lock_path, [Slot.KEYS], signs=True))
    sys.argv = [
        "flower-superexec",
        *("--runtime-api-address", f"127.0.0.1:{port}"),
        *("--root-certificates", str(home.loopback.certificate)),
        *("--superexec-auth-secret-file", str(home.state / "superexec.secret")),
    ]
    flower_superexec()


def run_serverapp(home: HubDirectory, ready: int) -> None:
    """Run the process of one run, whose task is one JSON object on standard input. It returns if there is none.

    Args:
        home: The hub's directory.
        ready: Descriptor on which the process says that it waits for its task, see `run_executor`.
    """
    # The package has a function of the module's name.
    serverapp: Any = import_module("flwr.superlink.runtime.run_serverapp")
    import_module("server.flower.server_app")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("flwr").setLevel(logging.INFO)  # each line of its DEBUG is written twice
    prove_clients(home.loopback.client)
    serverapp.install_from_fab = approved_only(serverapp.install_from_fab)
    if home.holds_secrets:
        forbid_inspection()  # before it has the secret of encrypted keys or a PIN: it may wait for hours
    say_ready(ready)
    given = sys.stdin.read()
    if not given:  # the executor has ended without a run
        return
    task = json.loads(given)
    remember_given(home.lock_path, task.get("secrets", ""))
    serverapp.run_serverapp(
        runtime_api_address=task["address"],
        log_queue=Queue(),
        token=task["token"],
        insecure=False,
        parent_pid=task["parent_pid"],
        runtime_dependency_install=False,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run `superlink DIR PORT`, `superexec DIR PORT` or `serverapp DIR DESCRIPTOR`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog=_MODULE, description=__doc__)
    parser.add_argument("part", choices=("superlink", "superexec", "serverapp"))
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("number", type=int, metavar="PORT|DESCRIPTOR")
    args = parser.parse_args(arguments)
    end_with_parent()
    try:
        home = HubDirectory.open(args.directory)
        if args.part == "superlink":
            run_superlink(home, args.number)
        elif args.part == "superexec":
            if receive(home.lock_path, signs=home.settings().token is not None):
                forbid_inspection()
            run_superexec(home, args.number)
        else:
            run_serverapp(home, args.number)
    except FedfinError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

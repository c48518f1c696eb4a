"""The three processes of an institution, as its supervisor starts them: agent, SuperNode, SuperExec."""

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from client.institution.directory import InstitutionDirectory
from client.node.flower_node import install_bundle
from common.errors import ConfigurationError
from common.files import try_lock, write_atomic
from common.processes.ports import free_port
from common.processes.supervisor import Service

__all__ = ["Part", "agent_status", "services", "single_instance_lock", "state_path"]

Part = Literal["all", "agent", "node"]


def state_path(home: InstitutionDirectory, part: Part) -> Path:
    """What the supervisor of this part says runs."""
    return home.state / f"{part}.json"


def services(home: InstitutionDirectory, part: Part) -> list[Service]:
    """What is to run, in order; the node's files are laid out on the way.

    The agent alone needs the keys, the rows and the ledger; the node alone needs the network. Each can run in a
    container, or under a user, of its own, with the socket between them.
    """
    for directory in (home.run, home.state):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = []
    if part in ("all", "agent"):
        found.append(_service(home, "agent", ("client.agent", str(home.directory)), ready=True))
    if part in ("all", "node"):
        port = _prepare_node(home)
        for name in ("supernode", "superexec"):
            found.append(_service(home, name, ("client.node.flower_node", name, str(home.directory), str(port))))
    return found


@contextmanager
def single_instance_lock(lock: Path, what: str) -> Iterator[None]:
    """Be the only one: two agents would answer each other's questions, two nodes of one key push each other out.

    Raises:
        ConfigurationError: another process is it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.open("w") as file:
        if not try_lock(file.fileno()):
            raise ConfigurationError(f"{lock}: {what} is running there already: stop that one first")
        yield


def agent_status(home: InstitutionDirectory) -> dict[str, Any]:
    """What the agent last said it was at: `state`, and while it answers `run`, `round`, `step`, `steps`."""
    try:
        return dict(json.loads((home.run / "agent.json").read_bytes()))
    except (OSError, ValueError):
        return {"state": "unknown"}


def _service(home: InstitutionDirectory, name: str, module: tuple[str, ...], ready: bool = False) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", *module),
        directory=home.run,
        log=home.state / "logs" / f"{name}.log",
        environment={
            # Flower finds its own programs by PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONSAFEPATH": "1",
            "FLWR_HOME": str(home.flower_home),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        },
        ready=(lambda: _answers(home.socket)) if ready else None,
    )


def _prepare_node(home: InstitutionDirectory) -> int:
    """Flower's approved app, its configuration and a fresh secret; returns a free port on loopback."""
    install_bundle(home)
    (home.run / "hub.json").unlink(missing_ok=True)
    write_atomic(home.run / "node.toml", f"agent-socket = {json.dumps(str(home.socket))}\n".encode(), mode=0o600)
    write_atomic(home.run / "superexec.secret", secrets.token_bytes(48), mode=0o600)
    return free_port()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

"""Describe the three processes of an institution to its supervisor: agent, SuperNode and SuperExec."""

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from client.institution.paths import InstitutionPaths, Slot
from client.node.approved_bundle import install_bundle
from common.errors import ConfigurationError
from common.files import open_own, try_lock, write_atomic
from common.flower.environment import flower_environment
from common.identity.keyring import hand_over
from common.processes.supervisor import Service

__all__ = ["Part", "agent_status", "is_started", "lock_path", "services", "single_instance_lock", "state_path"]

Part = Literal["all", "agent", "node"]
_POLL_S = 0.1
"""Seconds between two looks of the SuperExec for a task."""


def state_path(home: InstitutionPaths, part: Part) -> Path:
    """Return the file in which the supervisor of this part keeps the processes that it runs."""
    return (home.node_state if part == "node" else home.state) / f"{part}.json"


def lock_path(home: InstitutionPaths, part: Part) -> Path:
    """Return the lock that `start` of this part holds. Two nodes, or two agents, exclude each other."""
    return home.state / "agent.lock" if part == "agent" else home.node_state / "node.lock"


def services(home: InstitutionPaths, part: Part, hub_address: str) -> list[Service]:
    """Return the processes to run, in order, and write the node's files.

    Only the agent needs the keys, the rows and the ledger. Only the node needs the network. Each can run in its own
    container, or as its own user, with the agent's socket between them.

    If the key files are encrypted, agent and SuperNode each get the secret of their own keys, which this process holds,
    through a pipe. If the signing key is in a token, the agent gets its PIN as well. SuperExec and relays get none.

    Args:
        part: The processes that run on this machine.
        hub_address: "host:port" of the hub.
    """
    started = []
    if part in ("all", "agent"):
        for directory in (home.run, home.state):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        service = _service(home, home.state, "agent", ("client.agent", str(home.directory)), ready=True)
        started.append(replace(service, given=hand_over(home.lock_path, [Slot.KEYS], signs=True)))
    if part in ("all", "node"):
        home.node_state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _prepare_node(home)
        for name in ("supernode", "superexec"):
            arguments = (name, str(home.directory), hub_address)
            service = _service(home, home.node_state, name, ("client.node.flower_node", *arguments))
            given = hand_over(home.lock_path, [Slot.NODE]) if name == "supernode" else None
            started.append(replace(service, given=given))
    return started


@contextmanager
def single_instance_lock(lock: Path, service: str) -> Iterator[None]:
    """Hold `lock` within the block, so that no second instance runs.

    Two agents would answer each other's assignments, and two nodes with one key would push each other out.

    Args:
        service: Name of the service, for the message.

    Raises:
        ConfigurationError: Another process holds the lock, or the file cannot be opened.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = open_own(lock, os.O_RDWR)
    except OSError as error:
        raise ConfigurationError(
            f"{lock}: cannot be opened ({error.strerror}): remove it, or correct its owner"
        ) from None
    try:
        if not try_lock(handle):
            raise ConfigurationError(f"{lock}: {service} is running there already: stop that one first")
        yield
    finally:
        os.close(handle)


def is_started(home: InstitutionPaths) -> bool:
    """Return whether a `start` holds the institution now. Locks that this user may not read do not count."""
    for part in ("agent", "node"):
        try:
            handle = os.open(lock_path(home, part), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if not try_lock(handle, shared=True):
                return True
        finally:
            os.close(handle)
    return False


def agent_status(home: InstitutionPaths) -> dict[str, Any]:
    """Return the last status of the agent: `state`, and during an answer `run`, `round`, `step` and `steps`."""
    try:
        return dict(json.loads(home.agent_status_path.read_bytes()))
    except (OSError, ValueError):
        return {"state": "unknown"}


def _service(home: InstitutionPaths, state: Path, name: str, module: tuple[str, ...], ready: bool = False) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", *module),
        directory=state,
        log=state / "logs" / f"{name}.log",
        environment={
            **flower_environment(home.flower_home, _POLL_S),
            "PYTHONSAFEPATH": "1",
        },
        ready=(lambda: _answers(home.socket)) if ready else None,
    )


def _prepare_node(home: InstitutionPaths) -> None:
    """Write Flower's approved app, its configuration and a fresh secret."""
    install_bundle(home)
    home.hub_contact_path.unlink(missing_ok=True)
    settings = f"agent-socket = {json.dumps(str(home.socket))}\n"
    write_atomic(home.node_state / "node.toml", settings.encode(), mode=0o600)
    write_atomic(home.node_state / "superexec.secret", secrets.token_bytes(48), mode=0o600)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

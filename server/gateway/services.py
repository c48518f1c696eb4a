"""The processes of a started hub: SuperLink and SuperExec on loopback, and the gateway for institutions."""

import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from functools import partial

import httpx

from common.errors import ServiceError
from common.files import write_atomic, write_json
from common.flower.environment import flower_environment
from common.identity.keyring import hand_over
from common.identity.passphrase import forget
from common.identity.tls import split_address
from common.processes.ports import free_port
from common.processes.supervisor import Service
from server.hub.directory import ENVIRONMENT, HubDirectory
from server.hub.paths import Slot

__all__ = ["prepare_services"]

_LOOPBACK = "127.0.0.1"
_POLL_S = 0.2
"""Seconds between two looks of the SuperExec for a task."""


def prepare_services(home: HubDirectory) -> list[Service]:
    """Lay out the state directory for one start, and return the processes to run, in order.

    Raises:
        ServiceError: The gateway's port is taken.
        EnrolmentError, ConfigurationError: The hub's own files cannot be used.
        PassphraseError: The private keys are encrypted, and the passphrase is missing or wrong.
        TokenError: The signing key is in a token that cannot be used.
    """
    settings = home.settings().gateway
    listen = split_address(settings.listen)
    _check_free(*listen, home)
    for slot in (Slot.KEYS, Slot.GATEWAY):
        home.secret(slot)
    if home.settings().token is not None:
        home.keys()  # asks for the PIN
    forget()
    state, port = home.state, free_port()
    for name in ("logs", "flwr", "work"):
        (state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(home.uploads_path, ignore_errors=True)
    home.loopback.renew()
    write_atomic(state / "superexec.secret", secrets.token_hex(32).encode(), mode=0o600)
    upstream = f"{_LOOPBACK}:{port}"
    write_json(home.superlink_path, {"address": upstream})

    environment, work, logs = _environment(home), state / "work", state / "logs"
    healthy = partial(_is_healthy, upstream, home)
    superlink, superexec, gateway = _commands(home, port, upstream)
    # The SuperExec passes its secrets on to the processes of runs.
    signing, tls = hand_over(home.lock_path, [Slot.KEYS], signs=True), hand_over(home.lock_path, [Slot.GATEWAY])
    listening = partial(_is_listening, *listen)
    return [
        Service("superlink", superlink, work, logs / "superlink.log", environment, healthy),
        Service("superexec", superexec, work, logs / "superexec.log", environment, given=signing),
        Service("gateway", gateway, work, logs / "gateway.log", environment, listening, tls),
    ]


def _commands(home: HubDirectory, port: int, upstream: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the command lines of SuperLink, SuperExec and gateway. None of them holds a secret."""
    python, directory = (sys.executable, "-P", "-m"), str(home.directory)
    flower = (*python, "server.flower.processes")
    return (
        (*flower, "superlink", directory, str(port)),
        (*flower, "superexec", directory, str(port)),
        (*python, "server.gateway.gateway", "--home", directory, "--upstream", upstream),
    )


def _environment(home: HubDirectory) -> Mapping[str, str]:
    return {
        **flower_environment(home.state / "flwr", _POLL_S),
        ENVIRONMENT: str(home.directory),
        "PYTHONUNBUFFERED": "1",
    }


def _is_healthy(address: str, home: HubDirectory) -> bool:
    try:
        with httpx.Client(verify=home.loopback.client(), timeout=2, trust_env=False) as client:
            return client.get(f"https://{address}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _is_listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((_LOOPBACK if host == "0.0.0.0" else host, port), timeout=1):  # noqa: S104
            return True
    except OSError:
        return False


def _check_free(host: str, port: int, home: HubDirectory) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ServiceError(
            f"{home.settings_path}: gateway.listen: {host}:{port} cannot be used ({error.strerror}): stop the process "
            "that listens there, or choose another port"
        ) from None

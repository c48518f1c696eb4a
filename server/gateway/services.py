"""The processes of a started hub: SuperLink and SuperExec on loopback, and the gateway for institutions."""

import secrets
import socket
import ssl
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

from common.errors import ServiceError
from common.files import write_atomic, write_json
from common.flower.environment import flower_environment
from common.identity.authority import new_key_and_request
from common.identity.tls import split_address
from common.processes.ports import free_port
from common.processes.supervisor import Service
from server.hub.directory import ENVIRONMENT, HubDirectory

__all__ = ["prepare_services"]

_LOOPBACK = "127.0.0.1"
_LOOPBACK_LIFETIME = timedelta(days=825)
"""Lifetime of the SuperLink's certificate, which the authority issues at every start, for loopback alone."""
_POLL_S = 0.2
"""Seconds between two looks of the SuperExec for a task."""


def prepare_services(home: HubDirectory) -> list[Service]:
    """Lay out the state directory for one start, and return the processes to run, in order.

    Raises:
        ServiceError: The gateway's port is taken.
        EnrolmentError, ConfigurationError: The hub's own files cannot be used.
    """
    settings = home.settings().gateway
    listen = split_address(settings.listen)
    _check_free(*listen, home)
    state, port = home.state, free_port()
    for name in ("logs", "flwr", "work"):
        (state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key, secret = state / "loopback.pem", state / "loopback.key", state / "superexec.secret"
    key_pem, request = new_key_and_request("superlink")
    authority = home.authority()
    write_atomic(key, key_pem, mode=0o600)
    write_atomic(certificate, authority.issue_server(request, [_LOOPBACK, "localhost"], _LOOPBACK_LIFETIME).encode())
    write_atomic(secret, secrets.token_hex(32).encode(), mode=0o600)
    upstream = f"{_LOOPBACK}:{port}"
    write_json(home.superlink_path, {"address": upstream})

    environment, work, logs = _environment(home), state / "work", state / "logs"
    healthy = partial(_is_healthy, upstream, home.authority_certificate)
    superlink, superexec, gateway = _commands(home, port, upstream)
    return [
        Service("superlink", superlink, work, logs / "superlink.log", environment, healthy),
        Service("superexec", superexec, work, logs / "superexec.log", environment),
        Service("gateway", gateway, work, logs / "gateway.log", environment, partial(_is_listening, *listen)),
    ]


def _commands(home: HubDirectory, port: int, upstream: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the command lines of SuperLink, SuperExec and gateway. None of them holds a secret."""
    programs, state = Path(sys.executable).parent, home.state
    authority, secret = str(home.authority_certificate), str(state / "superexec.secret")
    superlink = (
        str(programs / "flower-superlink"),
        *("--host", _LOOPBACK, "--port", str(port), "--isolation", "process", "--enable-supernode-auth"),
        *("--ssl-certfile", str(state / "loopback.pem"), "--ssl-keyfile", str(state / "loopback.key")),
        *("--ssl-ca-certfile", authority),
        *("--database", str(state / "superlink.db"), "--superexec-auth-secret-file", secret),
        "--disable-runtime-dependency-installation",
    )
    superexec = (
        str(programs / "flower-superexec"),
        *("--runtime-api-address", upstream, "--root-certificates", authority),
        *("--superexec-auth-secret-file", secret),
    )
    gateway = (
        *(sys.executable, "-P", "-m", "server.gateway.gateway"),
        *("--home", str(home.directory), "--upstream", upstream),
    )
    return superlink, superexec, gateway


def _environment(home: HubDirectory) -> Mapping[str, str]:
    return {
        **flower_environment(home.state / "flwr", _POLL_S),
        ENVIRONMENT: str(home.directory),
        "PYTHONUNBUFFERED": "1",
    }


def _is_healthy(address: str, authority: Path) -> bool:
    try:
        verify = ssl.create_default_context(cafile=str(authority))
        return httpx.get(f"https://{address}/health", verify=verify, timeout=2).status_code == httpx.codes.OK
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

"""Run the institution's Flower node, a SuperNode and a SuperExec, with fewer rights than Flower gives them.

Flower has no client certificates, runs every bundle that the hub sends, and takes tasks of every kind. This module and
`client.node.approved_bundle` change that in private parts of Flower, and all of them are named in these two. Their
contract tests are `tests/client/node/test_flower_node.py`, and flwr is pinned to one release.

The node can open nothing: this room imports no module that reads keys, rows, the ledger or sealed messages. Each
process is `python -m client.node.flower_node`.
"""

import argparse
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from client.institution.paths import MAX_SOCKET_PATH, InstitutionPaths, Slot
from client.node.approved_bundle import Approved, approved_only
from client.node.connection import HubContact
from client.node.proxy import PROXY
from common.errors import ConfigurationError, EnrolmentError, FedfinError
from common.flower.bundle import bundle
from common.flower.internals import shorten_pull_backoff
from common.identity.keyring import recall, receive
from common.identity.tls import client_context, load_chain
from common.processes.inspection import forbid_inspection
from common.processes.supervisor import end_with_parent

__all__ = [
    "listen",
    "main",
    "mutual_tls",
    "relay_executor",
    "run_superexec",
    "run_supernode",
    "shorter_sleep",
]

_HEARTBEAT = "SendNodeHeartbeat"
_ANSWER_POLL_SECONDS = 0.05


class _Watch:
    """Note every call and every answer of the hub. It is one of Flower's interceptors."""

    def __init__(self, contact: HubContact) -> None:
        self._contact = contact

    def intercept(self, call: Any, call_next: Callable[[Any], Any]) -> Any:
        if not call.rpc_method.endswith(_HEARTBEAT):  # its thread goes on when the node's loop has ended
            self._contact.turn()
        answer = call_next(call)
        refused = answer.status_code == httpx.codes.UNAUTHORIZED  # Flower ends the node now
        if refused or answer.is_success:
            self._contact.answered(refused, answer.headers.get("date"))
        return answer


def mutual_tls(home: InstitutionPaths, contact: HubContact) -> type[Any]:
    """Return Flower's client of the hub with this institution's certificate. A renewal needs no restart.

    It goes through the proxy that `start` was told to use, and through none that the environment names otherwise.
    """
    from flwr.supernode.fleet_http_client import FleetHttpClient

    files = (home.tls / "client.pem", home.tls_key_path, home.tls / "ca.pem")
    secret = recall(home.lock_path, Slot.NODE)

    class MutualTlsClient(FleetHttpClient):  # type: ignore[misc]
        renewal: tuple[ssl.SSLContext, int]

        @classmethod
        def from_server_address(
            cls, server_address: str, _insecure: bool, _roots: object, interceptors: Any, **_: Any
        ) -> Any:
            context, stamp = client_context(*files, secret), files[0].stat().st_mtime_ns
            watched = [*interceptors, _Watch(contact)]
            client = cls(f"https://{server_address}", interceptors=watched, verify=context)
            client._client.close()
            proxy, timeout = os.environ.get(PROXY) or None, client._client.timeout
            client._client = httpx.Client(verify=context, timeout=timeout, trust_env=False, proxy=proxy)
            client.renewal = (context, stamp)
            return client

        def _send(self, call: Any) -> Any:
            context, stamp = self.renewal
            if (now := files[0].stat().st_mtime_ns) != stamp:
                load_chain(context, files[0], files[1], secret)
                self.renewal = (context, now)
            try:
                return super()._send(call)
            except httpx.TransportError as error:
                words = str(error).lower()
                if "certificate" in words or not ("ssl" in words or "tls" in words):
                    raise
                # Flower gives up at every error that names TLS. A hub that went away during a handshake comes back.
                raise httpx.ConnectError("the connection to the hub broke off") from None

    return MutualTlsClient


def listen(path: Path) -> socket.socket:
    """Return a listening Unix socket of mode 0600, in place of one that an earlier node left behind.

    Raises:
        ConfigurationError: The path is too long for a socket, or cannot be made.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ConfigurationError(f"{path}: too long for a socket: keep the institution's directory nearer to /")
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{path}: no socket can be made there ({error.strerror})") from None
    finally:
        os.umask(before)
    listener.listen()
    return listener


def node_key_file(home: InstitutionPaths) -> str:
    """Return a path at which Flower reads the node key once: the file, or a pipe that holds the decrypted key.

    Raises:
        EnrolmentError: The key cannot be decrypted.
    """
    secret = recall(home.lock_path, Slot.NODE)
    data = home.node_key_path.read_bytes()
    if secret is None or b"OPENSSH" in data.partition(b"\n")[0]:
        return str(home.node_key_path)
    try:
        key = load_pem_private_key(data, secret.hex().encode())
    except ValueError:
        raise EnrolmentError(f"{home.node_key_path}: cannot be decrypted: restore it from its backup") from None
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return f"/dev/fd/{reader}"


def shorter_sleep(seconds: float) -> None:
    """Sleep as Flower's node does, but look for a relay's answer after .05 seconds instead of half a second."""
    time.sleep(_ANSWER_POLL_SECONDS if seconds < 1 else seconds)


def run_supernode(home: InstitutionPaths, hub_address: str) -> None:
    """Run Flower's `flower-supernode` until it is ended or the hub refuses it. This process ends with it.

    Its runtime API listens on a Unix socket. On a TCP port of loopback every local user could take its place.

    Args:
        hub_address: "host:port" of the hub.

    Raises:
        FedfinError: A file of the node is missing, or its socket cannot be made.
    """
    from flwr.supernode import fleet_http_connection, start_client_internal

    command: Any = import_module("flwr.supernode.cli.flower_supernode")
    listener = listen(home.flower_socket)
    served = {"Server": command.uvicorn.Server, "Config": partial(command.uvicorn.Config, fd=listener.fileno())}
    command.uvicorn = SimpleNamespace(**served)
    shorten_pull_backoff()
    contact = HubContact(home.hub_contact_path)
    contact.turn()
    fleet_http_connection.FleetHttpClient = mutual_tls(home, contact)
    pull = start_client_internal._pull_and_store_message
    start_client_internal._pull_and_store_message = approved_only(pull, Approved(bundle()), contact.turn)
    start_client_internal.time = SimpleNamespace(sleep=shorter_sleep)
    sys.argv = [
        "flower-supernode",
        *("--superlink", hub_address, "--root-certificates", str(home.tls / "ca.pem")),
        *("--auth-supernode-private-key", node_key_file(home)),
        *("--node-config", str(home.node_state / "node.toml")),
        *("--isolation", "process", "--superexec-auth-secret-file", str(home.node_state / "superexec.secret")),
    ]
    try:
        command.flower_supernode()
        print("Flower has given up the connection to the hub", flush=True)  # noqa: T201
    except Exception:
        traceback.print_exc()
    # The thread of Flower's own server would keep a node alive that no longer asks the hub.
    os._exit(1)


def relay_executor(home: InstitutionPaths, approved: Approved) -> Any:
    """Return an executor of Flower's tasks that runs each one in a fork of `relay_fork_server.py`.

    Args:
        approved: The only bundle that a relay runs.
    """
    from flwr.supercore.superexec.executor import LaunchResult
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

    class RelayExecutor(SubprocessExecutor):  # type: ignore[misc]
        def __init__(self) -> None:
            self._relays = self._start()

        def _start(self) -> subprocess.Popen[bytes]:
            script = Path(__file__).with_name("relay_fork_server.py")
            return subprocess.Popen([sys.executable, "-P", str(script)], stdin=subprocess.PIPE)

        def launch(self, spec: Any) -> Any:
            if self._relays.poll() is not None:
                self._relays = self._start()
            task = {"token": spec.token, "parent_pid": spec.parent_pid, "socket": str(home.flower_socket)}
            task["approved"] = [approved.fab_id, approved.version, approved.sha256]
            if self._relays.stdin is not None:
                self._relays.stdin.write(json.dumps(task).encode() + b"\n")
                self._relays.stdin.flush()
            return LaunchResult.accepted()

    return RelayExecutor()


def run_superexec(home: InstitutionPaths) -> None:
    """Run Flower's `flower-superexec` for this institution's SuperNode. It takes client apps, no other kind of task."""
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec import run_superexec
    from flwr.supercore.superexec.plugin import AutoExecPlugin

    from client.node.relay_fork_server import client_over

    AutoExecPlugin.supported_task_types = frozenset({TaskType.CLIENT_APP})
    run_superexec.get_executor = lambda *_, **__: relay_executor(home, Approved(bundle()))
    run_superexec.RuntimeHttpClient = client_over(str(home.flower_socket))
    sys.argv = [
        "flower-superexec",
        *("--runtime-api-address", "supernode", "--insecure"),  # neither is used: the client has its socket
        *("--superexec-auth-secret-file", str(home.node_state / "superexec.secret")),
    ]
    flower_superexec()


def main() -> int:
    """Run `supernode DIR ADDRESS` or `superexec DIR ADDRESS`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("supernode", "superexec"))
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("hub_address", metavar="ADDRESS")
    args = parser.parse_args()
    end_with_parent()
    home = InstitutionPaths(args.directory)
    try:
        if args.part == "supernode":
            if receive(home.lock_path):
                forbid_inspection()
            run_supernode(home, args.hub_address)
        else:
            run_superexec(home)
    except FedfinError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

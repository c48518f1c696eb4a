"""Flower at the hub runs with fewer rights than its own commands give, on private parts of the pinned release."""

import base64
import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes, sign_message
from flwr.supercore.superexec import run_superexec as superexec
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.superexec.plugin import AutoExecPlugin
from flwr.superlink.cli import flower_superlink

from common.errors import ServiceError
from common.flower.bundle import bundle
from server.flower import processes
from server.hub.directory import HubDirectory


def test_only_the_installed_app_is_unpacked() -> None:
    unpacked: list[bytes] = []

    def install(content: bytes, skip_prompt: bool) -> Path:
        unpacked.append(content)
        return Path("app")

    install_approved = processes.approved_only(install)
    with pytest.raises(ServiceError, match="another app bundle"):
        install_approved(bundle() + b"x", skip_prompt=True)
    assert unpacked == []
    assert install_approved(bundle(), skip_prompt=True) == Path("app")


def test_a_runs_process_gets_its_token_through_a_pipe_and_checks_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    class Process:
        def __init__(self, command: tuple[str, ...], stdin: int) -> None:
            assert stdin == subprocess.PIPE
            self.command, self.stdin, self.sent = command, self, b""
            started.append(self)

        def write(self, data: bytes) -> None:
            self.sent += data

        def close(self) -> None:
            pass

    monkeypatch.setattr("server.flower.processes.subprocess.Popen", Process)
    home = HubDirectory(tmp_path)
    spec = ExecutionSpec(TaskType.SERVER_APP, "127.0.0.1:1", "t0ken", False, "ca.pem", False, 7, True, task_id=1)
    processes.run_executor(home).launch(spec)
    (process,) = started
    assert not any("t0ken" in part for part in process.command)

    module = import_module("flwr.superlink.runtime.run_serverapp")
    given: dict[str, Any] = {}
    monkeypatch.setattr(module, "install_from_fab", lambda *_, **__: Path("app"))
    monkeypatch.setattr(module, "run_serverapp", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(processes, "prove_clients", lambda _: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(process.sent.decode()))
    processes.run_serverapp(home)
    assert (given["token"], given["runtime_api_address"], given["parent_pid"]) == ("t0ken", "127.0.0.1:1", 7)
    with pytest.raises(ServiceError, match="another app bundle"):
        module.install_from_fab(b"x", skip_prompt=True)
    assert json.loads(process.sent) == {"address": "127.0.0.1:1", "token": "t0ken", "parent_pid": 7}


@pytest.mark.parametrize(("ahead_s", "is_taken"), [(-290, True), (10, True), (290, True), (400, False)])
def test_the_superlink_takes_clocks_that_differ_by_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int, is_taken: bool
) -> None:
    home = HubDirectory(tmp_path)
    home.loopback.renew()
    node_auth: Any = import_module("flwr.superlink.routers.fleet.node_auth")
    monkeypatch.setattr(node_auth, "SYSTEM_TIME_TOLERANCE", node_auth.SYSTEM_TIME_TOLERANCE)
    monkeypatch.setattr("flwr.superlink.cli.flower_superlink", lambda: None)
    monkeypatch.setattr(processes, "prove_servers", lambda _: None)
    monkeypatch.setattr(sys, "argv", [])
    processes.run_superlink(home, 1)

    private, public = generate_key_pairs()
    stamp = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
    key = public_key_to_bytes(public)
    headers = {
        "flwr-public-key": base64.b64encode(key).decode(),
        "flwr-signature": base64.b64encode(sign_message(private, stamp.encode())).decode(),
        "flwr-timestamp": stamp,
    }
    state = SimpleNamespace(protobuf_request=ActivateNodeRequest(public_key=key))
    request: Any = SimpleNamespace(headers=headers, state=state)
    if is_taken:
        node_auth.authenticate_node(request)
    else:
        with pytest.raises(HTTPException):
            node_auth.authenticate_node(request)


def test_the_symbols_that_are_replaced_are_flowers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(superexec.get_executor)
    assert AutoExecPlugin.supported_task_types == frozenset(TaskType)
    assert callable(flower_superlink)
    source = Path(import_module("flwr.superlink.runtime.run_serverapp").__file__ or "").read_text()
    # The app is unpacked through the name that is wrapped, and nothing of it is used before.
    assert source.index("install_from_fab(fab.content, skip_prompt=True)") < source.index("server_app_attr=")

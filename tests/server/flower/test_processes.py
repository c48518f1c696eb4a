"""Flower at the hub runs with fewer rights than its own commands give, on private parts of the pinned release."""

import base64
import io
import json
import os
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
from flwr.supercore.superexec.plugin import AutoExecPlugin
from flwr.superlink.cli import flower_superlink

from common.errors import PassphraseError, ServiceError
from common.flower.bundle import bundle
from common.identity.keyring import hand_over
from server.flower import processes
from server.hub.directory import HubDirectory
from server.hub.paths import Slot
from tests.passphrases import fresh_process


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


def test_a_runs_process_is_ready_before_it_has_a_task_and_then_checks_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = HubDirectory(tmp_path)
    module = import_module("flwr.superlink.runtime.run_serverapp")
    given: dict[str, Any] = {}
    monkeypatch.setattr(module, "install_from_fab", lambda *_, **__: Path("app"))
    monkeypatch.setattr(module, "run_serverapp", lambda **arguments: given.update(arguments))
    monkeypatch.setattr(processes, "prove_clients", lambda _: None)
    heard, ready = os.pipe()

    class Input:
        def read(self) -> str:
            assert os.read(heard, 1), "it reads its task before it says that it is ready"
            return json.dumps({"address": "127.0.0.1:1", "token": "t0ken", "parent_pid": 7})

    monkeypatch.setattr(sys, "stdin", Input())
    processes.run_serverapp(home, ready)
    os.close(heard)
    assert (given["token"], given["runtime_api_address"], given["parent_pid"]) == ("t0ken", "127.0.0.1:1", 7)
    with pytest.raises(ServiceError, match="another app bundle"):
        module.install_from_fab(b"x", skip_prompt=True)


def test_a_runs_process_opens_the_encrypted_signing_keys_and_no_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_process(monkeypatch)
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [], b"a passphrase of the hub")
    home.secret(Slot.KEYS)
    secrets = hand_over(home.lock_path, [Slot.KEYS]) or b""
    fresh_process(monkeypatch)
    module, opened, closed = import_module("flwr.superlink.runtime.run_serverapp"), list[str](), list[bool]()
    monkeypatch.setattr(module, "install_from_fab", module.install_from_fab)
    monkeypatch.setattr(module, "run_serverapp", lambda **_: opened.append(home.keys().name))
    monkeypatch.setattr(processes, "prove_clients", lambda _: None)
    monkeypatch.setattr(processes, "forbid_inspection", lambda: closed.append(True))
    task = {"address": "127.0.0.1:1", "token": "t0ken", "parent_pid": 7, "secrets": secrets.decode()}

    class Input(io.StringIO):
        def read(self, _: int | None = -1) -> str:
            assert closed, "it waits for the secret while other processes can still trace it"
            return json.dumps(task)

    monkeypatch.setattr(sys, "stdin", Input())
    heard, ready = os.pipe()
    processes.run_serverapp(home, ready)
    os.close(heard)
    assert (opened, closed) == (["hub"], [True])
    with pytest.raises(PassphraseError):
        home.authority()


def test_a_process_without_a_task_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("flwr.superlink.runtime.run_serverapp")
    monkeypatch.setattr(module, "run_serverapp", lambda **_: pytest.fail("it had no task"))
    monkeypatch.setattr(module, "install_from_fab", module.install_from_fab)
    monkeypatch.setattr(processes, "prove_clients", lambda _: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    heard, ready = os.pipe()
    processes.run_serverapp(HubDirectory(tmp_path), ready)
    os.close(heard)


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

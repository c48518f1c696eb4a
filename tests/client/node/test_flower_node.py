"""The contract with Flower's private parts, and the requests that an institution's node refuses on their account."""

import hashlib
import inspect
import json
import os
import re
import stat
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from client.node import approved_bundle, flower_node
from client.node.approved_bundle import Approved, approved_only, install_bundle
from client.node.connection import HubContact
from client.node.flower_node import mutual_tls, shorter_sleep
from common.flower.bundle import bundle, bundle_sha256
from tests.client.enrolled import enrol

with warnings.catch_warnings():
    # flwr pins a typer that uses a name click 8.5 deprecates. Not ours to mend, and only while importing.
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)
    from flwr.app import ConfigRecord, Error, Message, RecordDict
    from flwr.supercore.fab import Fab
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supercore.run import Run
    from flwr.supercore.superexec import run_superexec
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.nodestate import NodeStateFactory
    from flwr.supernode.runtime import run_clientapp


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values that Flower needs to make a message."""
    for name, value in {"_run_id": 7, "_node_id": 1, "_task_id": 1}.items():
        monkeypatch.setattr(TaskIdentity, name, value)


def test_what_is_replaced_in_flower_is_there_and_called_as_it_is_here() -> None:
    pull = inspect.signature(start_client_internal._pull_and_store_message)
    assert {"receive", "get_run", "get_fab", "state", "object_store"} <= set(pull.parameters)
    source = inspect.getsource(start_client_internal.start_client_internal)
    assert "run_id = _pull_and_store_message(\n                state=state," in source  # by name, from the module
    module = inspect.getsource(start_client_internal)
    assert re.findall(r"\btime\.(\w.*)", module) == ["sleep(3)", "sleep(0.5)", "sleep(0.5)"]
    assert inspect.getsource(fleet_http_connection.http_request_response).count("FleetHttpClient.") == 1
    assert "executor = get_executor(" in inspect.getsource(run_superexec.run_superexec)
    assert SubprocessExecutor().launch.__name__ == "launch"
    taken = list(inspect.signature(run_clientapp.run_clientapp).parameters)
    assert taken[:2] == ["runtime_api_address", "token"]
    assert {"insecure", "parent_pid"} <= set(taken)
    # Each of these is looked up by name, in the module that is changed.
    relayed = inspect.getsource(run_clientapp)
    assert "message, context, run, fab = pull_task_input(client)" in relayed
    assert "        install_from_fab(fab.content, skip_prompt=True)\n\n        app_path = get_project_dir(" in relayed
    for module in (run_clientapp, run_superexec):
        assert "client = RuntimeHttpClient.from_server_address(\n" in inspect.getsource(module)
    command = inspect.getsource(import_module("flwr.supernode.cli.flower_supernode"))
    assert "server = uvicorn.Server(\n        uvicorn.Config(\n" in command
    assert set(re.findall(r"\buvicorn\.(\w+)", command)) == {"Config", "Server"}
    made = inspect.signature(fleet_http_connection.FleetHttpClient.from_server_address)
    assert list(made.parameters)[:4] == ["server_address", "insecure", "root_certificates", "interceptors"]


def approved_run(**changes: Any) -> Run:
    approved = Approved(bundle())
    run = Run.create_empty(run_id=7)
    run.fab_id, run.fab_version, run.fab_hash = approved.fab_id, approved.version, approved.sha256
    for name, value in changes.items():
        setattr(run, name, value)
    return run


@dataclass
class Node:
    """Flower's real pull with a hub that is two functions."""

    run: Run
    fab: Fab
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store_factory = ObjectStoreFactory()
        self.state = NodeStateFactory(objectstore_factory=self.store_factory).state()
        self.state.set_node_id(3)
        content = RecordDict({"x": ConfigRecord({"y": 1})})
        self.message = Message(content, dst_node_id=3, message_type="train")
        self.message.metadata.__dict__["_run_id"] = 7
        self.message.metadata.__dict__["_message_id"] = self.message.object_id
        internal = start_client_internal
        self.objects = {key: each.deflate() for key, each in internal.get_all_nested_objects(self.message).items()}

    def pull(self) -> Any:
        internal = start_client_internal
        wrapped = approved_only(internal._pull_and_store_message, Approved(bundle()))
        return wrapped(
            state=self.state,
            object_store=self.store_factory.store(),
            node_config={},
            receive=lambda: (self.message, internal.get_object_tree(self.message)),
            get_run=lambda _: self.run,
            get_fab=lambda *_: self.fab,
            pull_object=lambda _, key: self.objects[key],
            confirm_message_received=lambda *_: self.asked.append("confirmed"),
            trusted_entities=None,
        )

    def reply(self) -> Error | None:
        (reply,) = self.state.get_messages_legacy(is_reply=True) or (None,)
        return None if reply is None else reply.error


def fab(content: bytes | None = None, digest: str | None = None) -> Fab:
    content = bundle() if content is None else content
    return Fab(digest or hashlib.sha256(content).hexdigest(), content, {})


TAMPERED = bundle().replace(b"sealed bytes", b"sealed Bytes", 1)


@pytest.mark.parametrize(
    ("run", "sent"),
    [
        (approved_run(fab_hash=hashlib.sha256(TAMPERED).hexdigest()), fab(TAMPERED)),
        (approved_run(), fab(TAMPERED)),
        (approved_run(), fab(TAMPERED, bundle_sha256())),
        (approved_run(), fab(digest="0" * 64)),
        (approved_run(fab_id="other/app"), fab()),
        (approved_run(fab_version="../../tmp/x"), fab()),
        (approved_run(primary_task_type="flwr-agentapp"), fab()),
    ],
)
def test_any_other_bundle_is_refused_before_it_is_stored(run: Run, sent: Fab) -> None:
    node = Node(run, sent)
    assert node.pull() == 7
    error = node.reply()
    assert error is not None
    assert error == start_client_internal.FAB_VERIFICATION_ERROR
    assert node.state.get_run(7) is None
    assert "confirmed" not in node.asked


def test_the_bundle_of_the_installed_code_is_taken() -> None:
    node = Node(approved_run(), fab())
    assert node.pull() == 7
    assert node.state.get_run(7) is not None
    assert node.asked == ["confirmed"]


def test_the_node_asks_often_after_an_answer_and_ever_less_until_flowers_own_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, pauses = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr(approved_bundle, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    nothing, message = (lambda **_: None), Node(approved_run(), fab()).message
    answers: list[Any] = [nothing, lambda receive, **_: receive() and 7, nothing]
    pull = approved_only(lambda **given: answers[0](**given), Approved(bundle()))
    given = {"receive": lambda: (message, None), "get_run": None, "get_fab": None}
    assert pull(**given) is None
    assert (min(pauses), max(pauses), now > 60) == (0.1, 0.25, True)
    assert pauses == sorted(pauses)
    asked_before = len(pauses)
    assert pull(**given) is None  # nobody has asked for a minute
    assert len(pauses) == asked_before
    answers.pop(0)
    assert pull(**given) == 7
    now += 600.0  # the training
    answers.pop(0)
    assert pull(**given) is None
    assert pauses[asked_before:] == pytest.approx(pauses[:asked_before])


@pytest.mark.parametrize(("asked", "slept"), [(0.5, 0.05), (3, 3)])
def test_the_node_looks_for_an_answer_more_often_than_flowers_and_no_more_often_for_a_message(
    asked: float, slept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(flower_node, "time", SimpleNamespace(sleep=pauses.append))
    shorter_sleep(asked)
    assert pauses == [slept]


def test_the_approved_app_is_installed_anew_and_read_only(tmp_path: Path) -> None:
    enrolled = enrol(tmp_path)
    install_bundle(enrolled.home)
    (app,) = (enrolled.home.flower_home / "apps").iterdir()
    assert app.name.endswith(bundle_sha256()[:8])
    relay = app / "client" / "app.py"
    assert not relay.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    relay.chmod(0o644)
    relay.write_text("tampered = True")
    install_bundle(enrolled.home)
    assert relay.read_bytes() == (Path(__file__).parents[3] / "client" / "app.py").read_bytes()


def test_the_node_shows_the_institutions_certificate_over_tls_1_3(tmp_path: Path) -> None:
    enrolled = enrol(tmp_path)
    client = mutual_tls(enrolled.home, HubContact(enrolled.home.hub_contact_path)).from_server_address(
        "127.0.0.1:1", False, "ignored", []
    )
    context = client.renewal[0]
    assert context.minimum_version.name == "TLSv1_3"
    assert context.check_hostname
    assert client._base_url == "https://127.0.0.1:1"
    noted = {}
    call = SimpleNamespace(rpc_method="/flwr.proto.Fleet/SendNodeHeartbeat")
    for status in (503, 200, 401):
        client._interceptors[-1].intercept(call, lambda _, status=status: httpx.Response(status))
        path = enrolled.home.hub_contact_path
        noted[status] = list(json.loads(path.read_text())) if path.exists() else []
    assert noted == {503: [], 200: ["seen"], 401: ["refused"]}


def modules_after(program: str) -> set[str]:
    program += "; import sys; print(*sys.modules, sep='\\n')"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split())


def test_what_relays_are_forked_from_holds_nothing_of_this_package() -> None:
    path = Path(__file__).parents[3] / "client" / "node" / "relay_fork_server.py"
    loaded = modules_after(f"import runpy; runpy.run_path({str(path)!r}, run_name='relay_fork_server')")
    assert not {name for name in loaded if name.split(".")[0] in ("client", "common", "server", "simulation")}
    assert "flwr.supernode.runtime.run_clientapp" in loaded


def test_the_relay_can_read_nothing() -> None:
    """Flower's client process imports only the modules of this package that carry bytes."""
    loaded = modules_after("import client.app")
    rooms = {name for name in loaded if name.split(".")[0] in ("client", "common", "server", "simulation")}
    assert rooms == {
        "client", "client.app", "common", "common.errors", "common.flower", "common.flower.records", "common.canonical"
    }  # fmt: skip
    assert not {"torch", "transformers", "peft", "opacus", "pyarrow", "datasets"} & loaded


def test_the_node_can_open_nothing() -> None:
    """Only modules that carry bytes, name places and dial are loaded, whatever they import in turn.

    The keyring holds the secret of the node's own two keys, and reads no file.
    """
    loaded = modules_after("import client.node.flower_node, client.node.processes, client.node.connection")
    rooms = {name for name in loaded if name.split(".")[0] in ("client", "common", "server", "simulation", "fedfin")}
    allowed = {"client", "common", "common.identity", "common.identity.keyring", "common.identity.tls"}
    allowed |= {"client.institution"}
    root_files = {
        "common.canonical",
        "common.errors",
        "common.files",
        "common.lazy",
        "common.source",
        "common.versions",
    }
    carriers = ("client.node", "client.institution.paths", "common.flower", "common.processes")
    others = rooms - allowed - root_files
    assert not {name for name in others if not name.startswith(carriers)}
    assert not {"torch", "transformers", "peft", "opacus", "pyarrow", "datasets"} & loaded

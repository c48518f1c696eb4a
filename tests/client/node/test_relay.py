"""SuperExec and relays as real processes, fed by Flower's real runtime API: on the node's socket, and nowhere else."""

import contextlib
import io
import os
import stat
import subprocess
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from client.node.approved_bundle import Approved
from client.node.flower_node import listen
from client.node.processes import services
from common.errors import ConfigurationError
from common.flower.bundle import bundle
from tests.client.enrolled import enrol

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)  # flwr pins such a typer
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.supercore.fab import Fab
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.supernode import start_client_internal as internal
    from flwr.supernode.main import create_app
    from flwr.supernode.nodestate import NodeStateFactory


class Node:
    """A SuperNode's state and runtime API, without a hub: a message is put into it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = enrol(directory).home
        self.services = {each.name: each for each in services(self.home, "node", "127.0.0.1:1")}
        self.objects = ObjectStoreFactory()
        self.factory = NodeStateFactory(objectstore_factory=self.objects)
        self.state = self.factory.state()
        self.state.set_node_id(3)
        for name, value in {"_run_id": 7, "_node_id": 3, "_task_id": 1}.items():
            monkeypatch.setattr(TaskIdentity, name, value)

    def put(self, content: bytes, **claimed: Any) -> None:
        """Store one message of run 7 as Flower's own node does, with a bundle that nobody has checked."""
        approved = Approved(content)
        run = Run.create_empty(run_id=7)
        run.fab_id, run.fab_version, run.fab_hash = approved.fab_id, approved.version, approved.sha256
        for name, value in claimed.items():
            setattr(run, name, value)
        message = Message(RecordDict({"x": ConfigRecord({"y": 1})}), dst_node_id=3, message_type="train")
        message.metadata.__dict__.update(_run_id=7, _message_id=message.object_id)
        parts = {key: each.deflate() for key, each in internal.get_all_nested_objects(message).items()}
        stored = internal._pull_and_store_message(
            state=self.state,
            object_store=self.objects.store(),
            node_config={"agent-socket": str(self.home.socket)},
            receive=lambda: (message, internal.get_object_tree(message)),
            get_run=lambda _: run,
            get_fab=lambda *_: Fab(run.fab_hash, content, {}),
            pull_object=lambda _, key: parts[key],
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )
        assert stored == 7

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Flower's runtime API on the node's socket, and the node's SuperExec as its command says."""
        secret = (self.home.node_state / "superexec.secret").read_bytes()
        listener = listen(self.home.flower_socket)
        app = create_app(state_factory=self.factory, superexec_auth_secret=secret)
        server = uvicorn.Server(uvicorn.Config(app, fd=listener.fileno(), log_level="error", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        service = self.services["superexec"]
        with (self.home.node_state / "superexec.log").open("wb") as log:
            process = subprocess.Popen(
                service.command,
                cwd=service.directory,
                env={**os.environ, **service.environment},
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
            server.should_exit = True
            thread.join(30)
            listener.close()

    def ending(self) -> str:
        """The details of the one task's end. Empty until then."""
        (task,) = self.state.get_tasks()
        return str(task.status.details) if task.status.status == "finished" else ""


def until(holds: Callable[[], Any], within: float = 90.0) -> Any:
    end = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return value


def hostile(mark: Path) -> bytes:
    """The approved bundle with one file changed: its import leaves a mark."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle())) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "client/app.py":
                data = f"open({str(mark)!r}, 'w').close()\n".encode() + data
            new.writestr(entry, data)
    return buffer.getvalue()


def test_the_nodes_socket_is_its_owners_alone_and_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "flower.sock"
    listen(path).close()
    listener = listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()
    with pytest.raises(ConfigurationError, match="too long for a socket"):
        listen(tmp_path / ("d" * 100))
    with pytest.raises(ConfigurationError, match="no socket can be made there"):
        listen(tmp_path / "absent" / "flower.sock")


def test_the_command_of_no_process_names_a_port_of_loopback(tmp_path: Path) -> None:
    """Any local user could bind it before the SuperNode comes to it."""
    for service in services(enrol(tmp_path).home, "node", "hub.example:8443"):
        assert not [word for word in service.command if word.isdigit() or word.startswith(("127.", "localhost"))]


def test_a_relay_runs_the_approved_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, monkeypatch)
    node.put(bundle())
    with node.serving():
        (reply,) = until(lambda: node.state.get_messages_legacy(is_reply=True))
    assert reply.error.reason == "unreadable"  # the relay's word for a message without one sealed value


@pytest.mark.parametrize("changed", ["bundle", "version"])
def test_a_relay_refuses_a_task_that_a_supernode_has_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    mark = tmp_path / "mark"
    node = Node(tmp_path, monkeypatch)
    if changed == "bundle":
        node.put(hostile(mark))
    else:
        node.put(bundle(), fab_version="9.9.9")
    with node.serving():
        assert "another app bundle than is installed here" in until(node.ending)
    assert not mark.exists()

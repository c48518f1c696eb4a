"""Other users of the hub's machine: a real one starts no run, reads no file of the hub and sees no secret."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab

from common.flower.bundle import bundle, bundle_sha256
from tests.e2e.deployed import Hub

NOBODY = 65534
STRANGER = """
import http.client, json, os, ssl, sys
given = json.load(sys.stdin)
"".encode("idna")
os.setgroups([]), os.setgid(given["user"]), os.setuid(given["user"])
tries = {}
context = ssl._create_unverified_context()
for path, body in given["calls"].items():
    connection = http.client.HTTPSConnection("127.0.0.1", given["port"], context=context, timeout=20)
    try:
        kind = {"Content-Type": "application/protobuf", "Accept": "application/protobuf"}
        connection.request("POST", path, bytes.fromhex(body), kind)
        tries[path] = connection.getresponse().status
    except ConnectionRefusedError:
        tries[path] = "nobody listens"
    except OSError:
        tries[path] = "no handshake"
for path in given["files"]:
    try:
        open(path, "rb").read()
        tries[path] = "read"
    except OSError as error:
        tries[path] = type(error).__name__
print(json.dumps({"user": os.getuid(), "tries": tries}))
"""


def as_stranger(**given: object) -> dict[str, object]:
    """What another user of the machine gets: statuses of calls by path, "read" or an error for files."""
    text = json.dumps(given | {"user": NOBODY})
    # Its modules are loaded before it becomes that user, who may have no access to this Python.
    command = [sys.executable, "-I", "-c", STRANGER]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert found["user"] == NOBODY
    return dict(found["tries"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as a second user")
def test_another_user_of_the_machine_starts_no_run_and_reads_no_key(hub: Hub) -> None:
    start = StartRunRequest(fab=Fab(hash_str=bundle_sha256(), content=bundle()))
    calls = {"/v1/control/start-run": start.SerializeToString().hex(), "/v1/control/list-nodes": "", "/health": ""}
    state = hub.home.state
    files = [
        state / "loopback.key",
        state / "superexec.secret",
        state / "superlink.db",
        hub.home.keys_path / "private.json",
    ]
    port = int(hub.home.superlink_address().partition(":")[2])
    found = as_stranger(port=port, calls=calls, files=[str(path) for path in files])
    assert found == dict.fromkeys(calls, "no handshake") | {str(path): "PermissionError" for path in files}


def test_no_command_line_holds_the_token_of_a_run(hub: Hub) -> None:
    run = hub.run("run.rounds=1")
    run.in_round(1)
    command = Path(f"/proc/{run.executor_pid()}/cmdline").read_bytes().split(b"\0")
    assert b"serverapp" in command
    assert b"--token" not in command
    assert not any(len(part) >= 64 and part.isalnum() for part in command)
    assert run.ended() == "finished"

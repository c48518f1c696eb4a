"""Every task is a fork of its own. It gets its own arguments, and neither the tasks of others nor their failures."""

import json
import subprocess
import sys
from pathlib import Path

from client.node.relay_fork_server import main

STAND_IN = f"""
import json, os, sys
import {main.__module__} as server

def run_clientapp(_address, token, insecure, parent_pid):
    record = {{"pid": os.getpid(), "token": token, "parent": parent_pid, "stdin": sys.stdin.buffer.raw.read()}}
    with open(token, "w") as file:
        json.dump({{**record, "stdin": len(record["stdin"])}}, file)
    if parent_pid == 1:
        raise RuntimeError("a relay that fails")

server.run_clientapp.run_clientapp = run_clientapp
server.main()
os.write(1, f"served by {{os.getpid()}}\\n".encode())
"""


def test_each_task_runs_in_a_fork_that_sees_its_own_arguments_alone(tmp_path: Path) -> None:
    place = {"socket": str(tmp_path / "flower.sock"), "approved": ["id", "version", "digest"]}
    tasks = [{"token": str(tmp_path / f"{n}.json"), "parent_pid": n} | place for n in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", STAND_IN],
        input="".join(json.dumps(task) + "\n" for task in tasks),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    server = int(done.stdout.split("served by ")[1])
    # The output of the forks goes to the server's, which `run` reads until the last of them has ended.
    records = [json.loads(Path(task["token"]).read_text()) for task in tasks]
    assert [(record["token"], record["parent"]) for record in records] == [
        (task["token"], n) for n, task in enumerate(tasks)
    ]
    assert len({record["pid"] for record in records} | {server}) == 4
    assert [record["stdin"] for record in records] == [0, 0, 0], "a relay cannot read the tasks of others"

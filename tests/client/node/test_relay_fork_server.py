"""Every task is a fork of its own. It gets its own arguments, and neither the tasks of others nor their failures."""

import json
import subprocess
import sys
from pathlib import Path

from client.node.relay_fork_server import main

STAND_IN = f"""
import json, os, sys
import {main.__module__} as server

def relay(address, token, insecure, parent_pid):
    record = {{"pid": os.getpid(), "parent_pid": parent_pid, "stdin": len(sys.stdin.buffer.raw.read())}}
    with open(token, "w") as file:
        json.dump(record, file)
    if token.endswith("1.json"):
        raise RuntimeError("a relay that fails")

server.run_clientapp.run_clientapp = relay
server.main()
os.write(1, f"served by {{os.getpid()}}\\n".encode())
"""


def test_each_task_runs_in_a_fork_that_sees_its_own_arguments_alone(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(3)]  # the token of a task names its file
    tasks = [
        {"socket": "node.sock", "approved": ["app", "1", "0"], "token": str(file), "parent_pid": 100 + number}
        for number, file in enumerate(files)
    ]
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
    records = [json.loads(file.read_text()) for file in files]
    assert [record["parent_pid"] for record in records] == [100, 101, 102]
    assert len({record["pid"] for record in records} | {server}) == 4
    assert [record["stdin"] for record in records] == [0, 0, 0], "a relay cannot read the tasks of others"

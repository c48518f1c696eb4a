"""Every task is a fork of its own. It gets its own arguments, and neither the tasks of others nor their failures."""

import json
import subprocess
import sys
from pathlib import Path

from client.node.relay_fork_server import main

STAND_IN = f"""
import json, os, sys
import {main.__module__} as server

def run_clientapp(**task):
    record = {{"pid": os.getpid(), "task": task, "stdin": sys.stdin.buffer.raw.read()}}
    with open(task["file"], "w") as file:
        json.dump({{**record, "stdin": len(record["stdin"])}}, file)
    if task["fails"]:
        raise RuntimeError("a relay that fails")

server.run_clientapp = run_clientapp
server.main()
os.write(1, f"served by {{os.getpid()}}\\n".encode())
"""


def test_each_task_runs_in_a_fork_that_sees_its_own_arguments_alone(tmp_path: Path) -> None:
    tasks = [{"file": str(tmp_path / f"{n}.json"), "fails": n == 1, "token": f"token {n}"} for n in range(3)]
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
    records = [json.loads(Path(task["file"]).read_text()) for task in tasks]
    assert [record["task"] for record in records] == tasks
    assert len({record["pid"] for record in records} | {server}) == 4
    assert [record["stdin"] for record in records] == [0, 0, 0], "a relay cannot read the tasks of others"

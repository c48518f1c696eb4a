"""kill -9 of an institution's agent, and a hub that runs other code than the institutions have reviewed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client.commands.status import is_serving
from client.institution.directory import InstitutionDirectory
from common.processes.supervisor import running_services
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import ROOT, Hub, Run, charges, environment, run_toml, until


def agent_of(hub: Hub, name: str) -> int | None:
    """The process of an institution's agent. None between its end and its restart."""
    state = hub.institutions[name].directory / "state" / "all.json"
    return next((each["pid"] for each in running_services(state) if each["name"] == "agent" and each["up"]), None)


def test_an_agent_killed_while_it_trains_owes_what_was_charged_and_its_institution_rejoins(hub: Hub) -> None:
    run = hub.run("run.rounds=2", "training.local_steps=60")
    until(lambda: charges(hub, "west", run), "west has charged the first round", every=0.05)
    agent = agent_of(hub, "west")
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    assert run.ended() == "finished"
    assert run.outcomes(1) == {"north": "contributed", "south": "contributed", "west": "failed:unavailable"}
    first, *others = charges(hub, "west", run)
    assert first.steps_done is None  # in doubt, so it counts in full
    assert all(charge.steps_done == 60 for charge in others)

    socket = InstitutionDirectory(hub.institutions["west"].directory).socket
    until(lambda: agent_of(hub, "west") not in (None, agent) and is_serving(socket), "west's agent is back")
    again = hub.run("run.rounds=2", "training.local_steps=2", "aggregation.quorum=3")
    assert again.ended() == "finished"
    assert again.outcomes(2) == dict.fromkeys(BANKS, "contributed")
    assert charges(hub, "west", run)[0].steps_done is None


def test_a_node_killed_with_a_question_in_its_hands_is_asked_again_and_nothing_is_charged_twice(hub: Hub) -> None:
    west = hub.institutions["west"]
    run = hub.run("run.rounds=1", "training.local_steps=60", "aggregation.quorum=3", "aggregation.deadline_s=500")
    until(lambda: charges(hub, "west", run), "west has charged the round", every=0.05)
    os.kill(west.pid("supernode"), signal.SIGKILL)
    assert run.ended() == "finished"
    assert run.outcomes(1) == dict.fromkeys(BANKS, "contributed")
    assert [charge.steps_done for charge in charges(hub, "west", run)] == [60]


@pytest.fixture
def modified(tmp_path: Path) -> Path:
    """Another version of the code, with other bytes in the relay."""
    other = tmp_path / "other"
    for room in ("client", "common", "server", "simulation"):
        shutil.copytree(ROOT / room, other / room, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "client" / "app.py").open("a") as relay:
        relay.write("\nSTOLEN = True\n")
    return other


def test_a_modified_app_bundle_is_refused_by_every_institution(hub: Hub, modified: Path) -> None:
    ledgers = [hub.institutions[name].ledger for name in BANKS]
    before = [path.read_bytes() if path.exists() else b"" for path in ledgers]
    hub.started.stop()
    hub.start(PYTHONPATH=str(modified))
    try:
        hub.await_connected(*BANKS)
        run = submitted(hub, modified)
        assert run.ended() == "quorum_missed"
    finally:
        hub.started.stop()
        hub.start()
    assert run.outcomes(1) == dict.fromkeys(BANKS, "failed:app")
    assert [path.read_bytes() if path.exists() else b"" for path in ledgers] == before
    for name in BANKS:
        log = hub.institutions[name].directory / "node-state" / "logs" / "supernode.log"
        assert "another app bundle than is installed here" in log.read_text()


def test_a_modified_app_bundle_is_not_run_at_the_hub(hub: Hub, modified: Path) -> None:
    run = submitted(hub, modified)
    log = hub.home.state / "logs" / "superexec.log"
    until(lambda: "another app bundle than is installed at the hub" in log.read_text(), "the hub refuses the bundle")
    assert run.ended() == "finished"  # the hub starts it again with its own


def submitted(hub: Hub, code: Path) -> Run:
    """A run that a command of another version of the code submits."""
    config = code / "run.toml"
    config.write_text(run_toml(hub.directory.parent / "base"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "server.cli", "run", config, "--home", hub.directory, "--detach", "--json"],
        env=environment() | {"PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Run(hub, json.loads(done.stdout.splitlines()[-1])["run"])

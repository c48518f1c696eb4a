"""An operator's work while a run goes on: look, rotate certificates, verify, and make mistakes."""

import json
import os
import shutil
import signal
import socket
import ssl
from pathlib import Path

from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, command, until
from tests.e2e.disk import Disk


def served(hub: Hub) -> str:
    """The certificate that the gateway shows now."""
    context = ssl.create_default_context(cafile=str(hub.home.authority_certificate))
    with (
        socket.create_connection(("127.0.0.1", hub.wiretap.upstream), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
    ):
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


def test_certificates_are_rotated_without_losing_a_run(hub: Hub) -> None:
    run = hub.run("run.rounds=3", "training.local_steps=50", "aggregation.quorum=3")
    run.in_round(1)
    before = served(hub)
    rotated = command("fedfin-hub", "certs", "--rotate", "server", "--rotate", "west", "--home", hub.directory)
    until(lambda: served(hub) != before, "the gateway shows its new certificate", within=20)
    command("fedfin-institution", "join", rotated["packages"]["west"], "--home", hub.institutions["west"].directory)
    assert run.ended() == "finished"
    assert [set(record["contributed"]) for record in run.history()] == [set(BANKS)] * 3
    valid = {entry["name"]: entry["state"] for entry in rotated["certificates"]}
    assert valid == dict.fromkeys(("authority", "server", *BANKS), "valid")


def test_status_says_what_is_up_who_is_connected_and_which_round(hub: Hub) -> None:
    run = hub.run("run.rounds=1", "training.local_steps=50")
    run.in_round(1)
    found = command("fedfin-hub", "status", "--home", hub.directory)
    assert found["started"]
    assert {entry["name"]: entry["up"] for entry in found["services"]} == dict.fromkeys(
        ("superlink", "superexec", "gateway"), True
    )
    assert {entry["name"]: entry["state"] for entry in found["institutions"]}.items() >= dict.fromkeys(
        BANKS, "connected"
    ).items()
    mine = next(entry for entry in found["runs"] if entry["run"] == run.name)
    assert (mine["state"], mine["round"], mine["rounds"]) in (("running", 1, 1), ("finished", 1, 1))
    assert run.ended() == "finished"
    assert Path(command("fedfin-hub", "report", run.name, "--home", hub.directory)["report"]).is_file()


def test_on_a_full_disk_the_hub_says_so_and_goes_on_when_there_is_room(hub: Hub, disk: Disk) -> None:
    run = hub.run("run.rounds=1", "training.local_steps=50", "aggregation.quorum=3")
    until(lambda: charges(hub, "west", run), "west has taken the question", every=0.05)
    agent = hub.institutions["west"].pid("agent")
    os.kill(agent, signal.SIGSTOP)  # its answer comes to the full disk
    said = hub.started.log.stat().st_size
    with disk.full():
        os.kill(agent, signal.SIGCONT)
        until(lambda: "(full): make room" in hub.started.log.read_text()[said:], "start says so", within=30)
        assert command("fedfin-hub", "status", "--home", hub.directory)["disk"] == {"free_bytes": 0, "state": "full"}
        assert (run.history(), run.file("outcome.json")) == ([], None)
    assert run.ended() == "finished"
    assert run.outcomes(1) == dict.fromkeys(BANKS, "contributed")
    until(lambda: "(enough)" in hub.started.log.read_text()[said:], "start says that there is room", within=30)
    assert "Traceback" not in hub.started.log.read_text()[said:]
    assert run.name in command("fedfin-hub", "verify", "--home", hub.directory)["runs"]


def test_a_second_start_and_unknown_names_are_one_line(hub: Hub) -> None:
    assert "started already" in command("fedfin-hub", "start", "--home", hub.directory, code=2)["error"]
    assert "no run of this hub" in command("fedfin-hub", "resume", "absent", "--home", hub.directory, code=2)["error"]
    assert "no institution" in command("fedfin-hub", "revoke", "absent", "--home", hub.directory, code=2)["error"]


def test_the_audit_logs_show_every_edit_offline(hub: Hub, tmp_path: Path) -> None:
    run = hub.run("run.rounds=1")
    assert run.ended() == "finished"
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("state", "private.json", "ca.key", "server.key", "checkpoint")
    shutil.copytree(hub.directory, copy, ignore=ignore)
    assert run.name in command("fedfin-hub", "verify", "--home", copy)["runs"]

    log = copy / "runs" / run.name / "audit.jsonl"
    whole = log.read_text()
    closed = next(line for line in whole.splitlines() if json.loads(line)["kind"] == "round_closed")
    for text in (whole.replace('"contributed"', '"Contributed"', 1), whole.replace(closed + "\n", "")):
        log.write_text(text)
        assert run.name in command("fedfin-hub", "verify", "--home", copy, code=2)["error"]
    shutil.rmtree(log.parent)
    assert "absent" in command("fedfin-hub", "verify", "--home", copy, code=2)["error"]


def test_a_stopped_hub_is_stopped_whole_and_plays_its_runs_on_even_without_its_state(hub: Hub) -> None:
    run = hub.run("run.rounds=2", "training.local_steps=100", "aggregation.quorum=3")
    run.in_round(1)
    pids = [hub.pid(service) for service in ("superlink", "superexec", "gateway")]
    pid = run.executor_pid()
    assert hub.started.stop(signal.SIGTERM) == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (*pids, pid)), "everything has ended", within=30)
    assert run.file("outcome.json") is None
    assert not command("fedfin-hub", "status", "--home", hub.directory)["started"]
    # Flower's database, its registrations and its records of the run.
    shutil.rmtree(hub.directory / "state")
    hub.start()
    hub.await_connected(*BANKS)
    assert run.ended() == "finished"
    assert [record["round"] for record in run.history()] == [1, 2]

"""Rounds always end, and say of every institution how."""

import os
import signal

from tests.e2e.deployed import Hub, charges, command, until


def test_one_that_never_answers_is_late_and_one_that_is_away_is_silent_and_both_return(hub: Hub) -> None:
    west = hub.institutions["west"]
    run = hub.run("run.rounds=5", "aggregation.deadline_s=45", "training.local_steps=20")

    # Round 1: it takes the question and does not answer. Round 2: it answers both. Only the second counts.
    agent = west.pid("agent")
    until(lambda: charges(hub, "west", run), "west has taken the first question", every=0.05)
    os.kill(agent, signal.SIGSTOP)
    try:
        run.in_round(2)
    finally:
        os.kill(agent, signal.SIGCONT)
    assert run.outcomes(1) == {"north": "contributed", "south": "contributed", "west": "failed:late"}

    # Rounds 3 and 4: it leaves, and holds nobody up.
    run.in_round(3)
    assert run.outcomes(2) == dict.fromkeys(("north", "south", "west"), "contributed")
    assert west.started.stop() == 0

    # Round 5, held open by another until the operator has stopped the run. When it is resumed, both are back.
    run.in_round(4, answered=2)
    held = hub.institutions["south"].pid("agent")
    os.kill(held, signal.SIGSTOP)
    try:
        run.in_round(5)
        assert command("fedfin-hub", "stop", run.name, "--home", hub.directory)["state"] == "stopped"
    finally:
        os.kill(held, signal.SIGCONT)
    assert run.outcomes(4) == {"north": "contributed", "south": "contributed", "west": "failed:silent"}
    west.started.start()
    hub.await_connected("west")
    command("fedfin-hub", "resume", run.name, "--home", hub.directory, "--detach")
    assert run.ended() == "finished"
    assert run.outcomes(5) == dict.fromkeys(("north", "south", "west"), "contributed")
    assert [record["round"] for record in run.history()] == [1, 2, 3, 4, 5]


def test_without_a_quorum_the_run_stops_and_resumes_when_they_are_back(hub: Hub) -> None:
    west = hub.institutions["west"]
    assert west.started.stop() == 0
    until(lambda: "west" not in hub.connected(), "west has left")
    run = hub.run("run.rounds=1", "aggregation.deadline_s=20", "aggregation.quorum=3")
    assert run.ended() == "quorum_missed"
    assert "the quorum is 3 (west failed:silent)" in run.file("outcome.json")["message"]
    west.started.start()
    hub.await_connected("west")
    result = command("fedfin-hub", "resume", run.name, "--home", hub.directory, within=240)
    assert result["state"] == "finished"
    assert result["rounds"] == 1

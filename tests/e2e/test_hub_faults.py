"""kill -9 of each of the hub's processes in the middle of a round: the run goes on, or resumes at that very round."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from common.journal.journal import verify
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, Run, command

ROUNDS = 5


@pytest.fixture(scope="module")
def submitted(_started: Hub) -> Run:
    """One run for this whole file: each test kills a process in the round that it finds under way."""
    _started.await_connected(*BANKS)
    return _started.run(f"run.rounds={ROUNDS}", "training.local_steps=150", "aggregation.quorum=3")


@pytest.fixture
def run(submitted: Run, hub: Hub) -> Iterator[Run]:
    """The run, with the hub up and every institution connected. It has not failed before or after a test."""
    yield submitted
    assert submitted.file("outcome.json", {}).get("state") in (None, "finished")


def kill_in_mid_round(run: Run, pid: Callable[[], int]) -> None:
    """kill -9 while a round is asked and not answered by all. Then wait until that round is in the history."""
    before = len(run.history())
    run.in_round(before + 1)
    os.kill(pid(), signal.SIGKILL)
    assert run.closed(before + 1) == dict.fromkeys(BANKS, "contributed")


@pytest.mark.parametrize("service", ["gateway", "superlink", "superexec"])
def test_a_round_goes_on_after_kill_9_of(run: Run, hub: Hub, service: str) -> None:
    kill_in_mid_round(run, lambda: hub.pid(service))


def test_a_round_is_executed_again_by_a_new_process_after_kill_9_of_the_server_app(run: Run) -> None:
    first = run.executor_pid()
    kill_in_mid_round(run, lambda: first)
    assert run.executor_pid() != first


def test_the_run_ends_with_every_round_once_and_nothing_charged_twice(run: Run, hub: Hub) -> None:
    assert run.ended() == "finished"
    assert [record["round"] for record in run.history()] == list(range(1, ROUNDS + 1))
    assert len(run.audit("run_continued")) >= 1
    assert run.name in command("fedfin-hub", "verify", "--home", hub.directory)["runs"]
    for name in BANKS:
        keys = hub.home.members()[name].keys
        charges = [entry for entry in verify(hub.institutions[name].ledger, keys) if run.name in str(entry.body)]
        # A question asked again is answered from the outbox: no training, no charge.
        assert len(charges) == ROUNDS

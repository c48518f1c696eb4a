"""Eight institutions: two hundred connections at once, then twenty runs in a row. `make soak`."""

import contextlib
import os
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node

from tests.e2e.deployed import Hub, until
from tests.e2e.test_door import home, node

NAMES = tuple(f"bank-{number}" for number in range(1, 9))
CONNECTIONS, HONEST, CALLS = 200, 12, 5
"""Connections at once, those of each institution among them, and calls on each of those. The rest say nothing."""
RUNS, SLOW_EVERY, DEADLINE_S, LATEST_S = 20, 4, 30, 2
"""Runs, of which every fourth has an institution that does not answer, and the seconds that a round may end late."""


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub.create(tmp_path_factory.mktemp("soak"))
    try:
        for name in NAMES:
            hub.enrol(name)
        hub.start()
        hub.start_institutions()
        yield hub
    finally:
        hub.stop()


def told(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - figures for the person who waits


def call(hub: Hub, name: str) -> list[tuple[float, int]]:
    """Open a connection and make its calls, which reach the SuperLink. Return seconds and tries of each.

    It tries again after 503, as Flower's node does.
    """
    found = []
    with node(hub, home(hub, name).tls, home(hub, name).node_key_path) as client:
        for _ in range(CALLS):
            begun, status, tries = time.monotonic(), 503, 0
            while status == 503:
                # No node has this number, so that no message is taken from one.
                with pytest.raises(httpx.HTTPStatusError) as answer:
                    client.PullMessages(PullMessagesRequest(node=Node(node_id=1)))
                status, tries = answer.value.response.status_code, tries + 1
            assert status == 401
            assert "fedfin-refused" not in answer.value.response.headers
            found.append((time.monotonic() - begun, tries))
    return found


@pytest.mark.soak
def test_of_two_hundred_connections_at_once_every_honest_call_is_answered(eight: Hub) -> None:
    honest = [name for name in NAMES for _ in range(HONEST)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(honest)) as pool:
        for _ in range(CONNECTIONS - len(honest)):
            stack.enter_context(socket.create_connection(("127.0.0.1", eight.wiretap.upstream), timeout=20))
        begun = time.monotonic()
        found = [each for calls in pool.map(lambda name: call(eight, name), honest) for each in calls]
        total = time.monotonic() - begun
    assert len(found) == len(honest) * CALLS
    again, slowest = sum(tries - 1 for _, tries in found), max(seconds for seconds, _ in found)
    middle = statistics.median(seconds for seconds, _ in found)
    told(f"{CONNECTIONS} connections, {len(found)} calls in {total:.1f} s, {again} of them tried again")
    told(f"an answer took {middle:.2f} s (median), and {slowest:.2f} s at most")
    assert again < len(found) / 20
    assert slowest < 60
    until(lambda: eight.connected() == set(NAMES), "all institutions are connected", within=60)


@pytest.mark.soak
def test_twenty_runs_in_a_row_end_and_no_round_is_late(eight: Hub) -> None:
    for number in range(1, RUNS + 1):
        begun = time.monotonic()
        if number % SLOW_EVERY:
            run, answering, deadline = eight.run(f"run.seed={number}", "aggregation.quorum=8"), set(NAMES), 200
            assert run.ended(600) == "finished", run.file("outcome.json")
        else:
            agent = eight.institutions[NAMES[-1]].pid("agent")
            os.kill(agent, signal.SIGSTOP)
            try:
                run = eight.run(f"run.seed={number}", f"aggregation.deadline_s={DEADLINE_S}", "aggregation.quorum=7")
                answering, deadline = set(NAMES[:-1]), DEADLINE_S
                assert run.ended(600) == "finished", run.file("outcome.json")
            finally:
                os.kill(agent, signal.SIGCONT)
        assert [set(record["contributed"]) for record in run.history()] == [answering] * 2
        late = [record["seconds"] - deadline for record in run.history()]
        ends = ", ".join(f"{each:+.1f}" for each in late)
        told(f"run {number}: {time.monotonic() - begun:.0f} s, rounds end {ends} s after the deadline")
        assert max(late) <= LATEST_S

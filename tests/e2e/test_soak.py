"""Eight institutions, twenty runs in a row: `make soak`."""

import time

import pytest

from tests.e2e.deployed import Hub

NAMES = tuple(f"bank-{number}" for number in range(1, 9))


@pytest.mark.soak
def test_twenty_runs_in_a_row_with_eight_institutions_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = Hub.create(tmp_path_factory.mktemp("soak"))
    try:
        for name in NAMES:
            hub.enrol(name)
        hub.start()
        hub.start_institutions()
        for number in range(20):
            begun = time.monotonic()
            run = hub.run(f"run.seed={number}", "aggregation.quorum=8")
            assert run.ended(600) == "finished", run.file("outcome.json")
            assert [set(record["contributed"]) for record in run.history()] == [set(NAMES)] * 2
            seconds = [record["seconds"] for record in run.history()]
            print(f"run {number + 1}: {time.monotonic() - begun:.0f} s, rounds {seconds}", flush=True)  # noqa: T201
    finally:
        hub.stop()

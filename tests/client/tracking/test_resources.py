"""Readings of the machine."""

import time

from client.tracking.resources import Meter


def test_a_reading_has_the_share_of_the_processors_and_the_memory_of_this_process() -> None:
    meter = Meter(every=0.0)
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        sum(range(1000))
    usage = meter.read()
    assert usage is not None
    assert 0 < usage.cpu <= 1
    assert usage.memory > 10**6
    assert usage.seconds >= 0.05


def test_a_reading_is_taken_at_most_once_an_interval() -> None:
    meter = Meter(every=3600.0)
    assert meter.read() is None
    assert meter.memory_limit > 10**8

"""One institution's pull runs alone and once at a time, and its errors are returned, never raised."""

from collections.abc import Callable, Iterable
from typing import Any

from server.flower.replies import ReplyPuller, start_inline


class FakeGrid:
    """Notes what was asked for, and answers with one reply or an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[list[str]] = []
        self.error = error

    def pull_messages(self, identities: Iterable[str]) -> list[Any]:
        self.asked.append(list(identities))
        if self.error is not None:
            raise self.error
        return ["reply"]


def puller(grid: FakeGrid, start: Callable[[Callable[[], None]], None] = start_inline) -> ReplyPuller:
    return ReplyPuller(grid, start, now=0.0, pause_s=0.2)


def test_a_pull_brings_the_replies_of_one_institution() -> None:
    grid = FakeGrid()
    assert puller(grid).pull(["m1", "m2"], 0.0) == (["reply"], None)
    assert grid.asked == [["m1", "m2"]]


def test_an_error_is_returned_with_no_reply() -> None:
    error = ValueError("bytes")
    assert puller(FakeGrid(error)).pull(["m1"], 0.0) == ([], error)


def test_no_second_pull_begins_while_one_is_under_way() -> None:
    grid = FakeGrid()
    waiting: list[Callable[[], None]] = []
    slow = puller(grid, waiting.append)
    assert slow.pull(["m1"], 0.0) == ([], None)
    assert slow.pull(["m1"], 100.0) == ([], None)
    assert len(waiting) == 1
    waiting[0]()
    assert slow.pull(["m1"], 101.0) == (["reply"], None)


def test_the_pause_grows_with_the_time_waited_to_one_second() -> None:
    grid = FakeGrid()
    patient = puller(grid)
    for now in (0.0, 0.1, 0.3, 10.0, 10.4, 10.5, 600.0, 600.9, 601.0):
        patient.pull(["m1"], now)
    # Pulled at 0 (pause 0.2), 0.3 (0.2), 10 (0.5), 10.5 (0.525), 600 (1.0) and 601 seconds.
    assert len(grid.asked) == 6

"""A full disk is said, and work goes on when there is room."""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from server.hub.disk import DiskWatch, await_room, room

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the free bytes of every disk."""
    free = [2**40]
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(2**41, 0, free[0]))

    def leave(value: int) -> None:
        free[0] = value

    return leave


def test_a_run_waits_for_room_and_goes_on(
    tmp_path: Path, disk: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            disk(2**40)

    disk(1000)
    caplog.set_level("INFO")
    await_room(tmp_path, 5_000_000, sleep)
    assert len(waits) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "the disk is full: the run waits for 6 MB: make room" in caplog.text
    assert "there is room again: the run goes on" in caplog.text


def test_a_disk_that_runs_full_is_said_once_an_hour(tmp_path: Path, disk: Callable[[int], None]) -> None:
    now = [0.0]
    said: list[str] = []
    watch = DiskWatch(tmp_path, said.append, lambda: now[0])

    def ticks(seconds: int) -> list[str]:
        said.clear()
        for _ in range(seconds):
            now[0] += 1
            watch.tick()
        return [line.partition(": ")[2] for line in said]

    assert ticks(100) == []
    disk(500_000_000)
    assert ticks(3000) == ["500 MB are free on the disk (low): make room"]
    disk(1_000_000)
    assert ticks(5000) == ["1 MB are free on the disk (full): make room"] * 2
    disk(2**40)
    assert ticks(5000) == [f"{2**40 // 10**6} MB are free on the disk (enough)"]
    assert room(tmp_path).state == "enough"

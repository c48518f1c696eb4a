"""Clocks that differ by up to five minutes are tolerated, with a warning. Beyond, the reason is said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.hub import clocks
from server.hub.clocks import ClockWatch, read_clocks
from server.hub.directory import HubDirectory

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> HubDirectory:
    (tmp_path / "state").mkdir()
    return HubDirectory(tmp_path)


@pytest.mark.parametrize(
    ("ahead_s", "is_taken", "line"),
    [
        (0, True, ""),
        (10, True, ""),
        (-299, True, "the clock of west is 299 s behind the hub's, and would be refused beyond 300 s"),
        (299, True, "the clock of west is 299 s ahead of the hub's, and would be refused beyond 300 s"),
        (301, False, "the clock of west is 301 s ahead of the hub's, and is refused: set the clock that is wrong"),
        (-3600, False, "the clock of west is 3600 s behind the hub's, and is refused: set the clock that is wrong"),
    ],
)
def test_a_clock_is_taken_up_to_five_minutes_from_the_hubs(
    home: HubDirectory, caplog: pytest.LogCaptureFixture, ahead_s: int, is_taken: bool, line: str
) -> None:
    watch = ClockWatch(home, NOW.timestamp)
    for _ in range(3):
        assert watch.observe("west", (NOW + timedelta(seconds=ahead_s)).isoformat()) is is_taken
    assert len(caplog.records) == (1 if line else 0)
    assert line in caplog.text
    assert read_clocks(home) == {"west": ahead_s}


@pytest.mark.parametrize("stamp", ["", "soon", "9999999999"])
def test_a_stamp_that_is_no_time_is_left_to_the_superlink(home: HubDirectory, stamp: str) -> None:
    assert ClockWatch(home, NOW.timestamp).observe("west", stamp)
    assert read_clocks(home) == {}


@pytest.mark.parametrize("stamp", ["0001-01-02T00:00:00+00:00", "9999-12-30T00:00:00+00:00"])
def test_a_stamp_of_another_age_is_refused(home: HubDirectory, stamp: str) -> None:
    assert not ClockWatch(home, NOW.timestamp).observe("west", stamp)


def test_stamps_that_change_with_every_request_are_written_once(
    home: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway serves all institutions in one thread, which must not wait for the disk because of one of them."""
    written: list[bool] = []
    monkeypatch.setattr(clocks, "write_atomic", lambda *_, sync=True, **__: written.append(sync))
    now = NOW.timestamp()
    watch = ClockWatch(home, lambda: now)
    for number in range(1000):
        watch.observe("west", (NOW + timedelta(seconds=100 * (number % 2))).isoformat())
    assert written == [False]
    now += 60
    watch.observe("west", (NOW + timedelta(seconds=200)).isoformat())
    assert written == [False, False]


@pytest.mark.parametrize("text", ["", "[]", '{"west": "x"}', '{"west": null}'])
def test_damaged_clocks_give_nobody_more_time(home: HubDirectory, text: str) -> None:
    assert read_clocks(home) == {}
    home.clocks_path.write_text(text)
    assert read_clocks(home) == {}

"""The room on the disk of the hub's directory. A hub without room says so, and goes on when there is some."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DiskWatch", "Room", "await_room", "room"]

_LOW_BYTES, _FULL_BYTES = 2**30, 64 * 2**20
_LOOK_EVERY_S, _SAY_EVERY_S = 10.0, 3600.0

log = logging.getLogger("fedfin.hub")


@dataclass(frozen=True)
class Room:
    """Free bytes of a disk, and what they mean: "enough", "low" (below 1 GiB) or "full" (below 64 MiB)."""

    free_bytes: int
    state: str


def room(directory: Path) -> Room:
    """Return the room on the disk of a directory. Raises OSError."""
    free = shutil.disk_usage(directory).free
    return Room(free, "full" if free < _FULL_BYTES else "low" if free < _LOW_BYTES else "enough")


def await_room(directory: Path, needed_bytes: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until the disk of a directory has room, and say so.

    Args:
        directory: A directory on the disk.
        needed_bytes: Bytes that are about to be written.
        sleep: Waits for a number of seconds.
    """
    waited = False
    while shutil.disk_usage(directory).free < needed_bytes + 2**20:
        if not waited:
            log.error("%s: the disk is full: the run waits for %d MB: make room", directory, needed_bytes // 10**6 + 1)
        waited = True
        sleep(_LOOK_EVERY_S / 2)
    if waited:
        log.info("%s: there is room again: the run goes on", directory)


class DiskWatch:
    """Says that the disk runs full, when that changes and then once an hour.

    Args:
        directory: The hub's directory.
        say: Called with a line for the operator.
        monotonic: Clock in seconds.
    """

    def __init__(
        self, directory: Path, say: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._say, self._monotonic = directory, say, monotonic
        self._state, self._look, self._repeat = "enough", 0.0, 0.0

    def tick(self) -> None:
        """Call this often. It looks every ten seconds."""
        now = self._monotonic()
        if now < self._look:
            return
        self._look = now + _LOOK_EVERY_S
        try:
            found = room(self._directory)
        except OSError:
            return
        if found.state != self._state or (found.state != "enough" and now >= self._repeat):
            self._state, self._repeat = found.state, now + _SAY_EVERY_S
            remedy = "" if found.state == "enough" else ": make room"
            self._say(f"{self._directory}: {found.free_bytes // 10**6} MB are free on the disk ({found.state}){remedy}")

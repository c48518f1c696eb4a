"""A line a minute on standard error while a long command runs without a terminal."""

import math
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["MinuteLines", "time_left"]

EVERY_S = 60.0


class MinuteLines:
    """A context in which a line is printed every minute."""

    def __init__(self, line: Callable[[], str], show: Callable[[str], None], every: float | None = None) -> None:
        """Prepare the context. Nothing is printed yet.

        Args:
            line: Returns what is done and what is left. An empty line is not printed.
            show: Prints a line.
            every: Seconds between two lines. None takes a minute.
        """
        self._line, self._show, self._every = line, show, every or EVERY_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            if text := self._line():
                self._show(text)


def time_left(done: float, seconds: float) -> str:
    """Return the time that is left, in words. Empty if nothing is done yet.

    Args:
        done: Share of the work that is done, 0 to 1.
        seconds: Time that it took.

    >>> time_left(0.25, 300), time_left(0.0, 20)
    (', about 15 min left', '')
    """
    if done <= 0:
        return ""
    left = seconds * (1 - min(1.0, done)) / done
    return ", less than a minute left" if left < 60 else f", about {math.ceil(left / 60)} min left"

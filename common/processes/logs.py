"""Logs of processes that run for months: limited in size, and in lines a second."""

import logging
import time
from collections.abc import Callable

__all__ = ["RateLimit"]

_LINES, _PERIOD_S = 50, 10.0


class RateLimit(logging.Filter):
    """Lets 50 lines in ten seconds pass. The first line after a pause says how many were left out.

    Args:
        monotonic: Clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic, self._since, self._lines = monotonic, monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line may be written."""
        now = self._monotonic()
        if now - self._since >= _PERIOD_S:
            left_out, self._since, self._lines = self._lines - _LINES, now, 0
            if left_out > 0:
                record.msg, record.args = f"{record.getMessage()} ({left_out} earlier lines were left out)", ()
        self._lines += 1
        return self._lines <= _LINES

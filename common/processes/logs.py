"""Logs of processes that run for months: limited in size, and in lines a second."""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, cast

__all__ = ["JsonFormatter", "RateLimit", "RotatingLog", "copy_to_log"]

_LINES, _PERIOD_S = 50, 10.0
_LARGEST_LOG, _OLDER_LOGS = 10 * 2**20, 3
_LONGEST_LINE = 2**16


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


class JsonFormatter(logging.Formatter):
    """Writes a line as one JSON object: time (UTC, ISO 8601), level, logger and message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, with the traceback in its message."""
        time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": time_, "level": record.levelname, "logger": record.name, "message": super().format(record)}
        return json.dumps(fields)


class RotatingLog(RotatingFileHandler):
    """A log that its owner alone can read, of 10 MiB, beside three older ones. A full disk loses lines, nothing else.

    Args:
        path: The file. It must not be a link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=_LARGEST_LOG, backupCount=_OLDER_LOGS, encoding="utf-8", delay=True, errors="replace"
        )
        with contextlib.suppress(OSError):  # else the first line that can be written opens it
            self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

        # The base class opens the file like this, but without an opener.
        stream = open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=private)  # noqa: SIM115
        return cast(TextIOWrapper, stream)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Lose the line. There is no place to say so but the disk that is full."""


def copy_to_log(output: IO[bytes], path: Path) -> threading.Thread:
    """Copy the output of a process to a `RotatingLog` until it ends, in a thread, and return the thread.

    Args:
        output: The reading end of a pipe.
        path: The log.
    """

    def copy() -> None:
        log = RotatingLog(path)
        with output:
            while line := output.readline(_LONGEST_LINE):
                text = line.decode(errors="replace").rstrip("\n")
                log.handle(logging.LogRecord("output", logging.INFO, "", 0, text, None, None))
        log.close()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread

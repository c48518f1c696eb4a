"""Repeat a set of messages at most once a day from a polling loop."""

import time
from collections.abc import Callable, Sequence

from common.errors import FedfinError

__all__ = ["DailyReminder"]

_EVERY_S = 86_400.0


class DailyReminder:
    """Says each line of `due` at once, and, as long as there are any, once a day from then on.

    Raises:
        FedfinError: `due` does, the first time. Later errors are logged too, and the loop goes on.
    """

    def __init__(
        self, due: Callable[[], Sequence[str]], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._due, self._say, self._clock = due, say, clock
        self._tell(due())

    def tick(self) -> None:
        """Call this often. It looks for messages once a day."""
        if self._clock() < self._next:
            return
        try:
            self._tell(self._due())
        except FedfinError as error:
            self._tell([str(error)])

    def _tell(self, lines: Sequence[str]) -> None:
        self._next = self._clock() + _EVERY_S
        for line in lines:
            self._say(line)

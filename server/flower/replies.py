"""Pull the replies of one institution apart from those of the others, so that it can neither delay nor stop them.

Flower pulls several messages one after another. It waits for content that was announced and is not uploaded yet, and
content that cannot be decoded is an exception. A separate pull for each institution, in a thread of its own, confines
both to the institution that caused them.
"""

import threading
from collections.abc import Callable, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

__all__ = ["ReplyPuller", "Start", "start_inline", "start_thread"]

Start = Callable[[Callable[[], None]], None]
"""Runs a function, at once or in a thread."""

_LONGEST_PAUSE_S = 1.0


def start_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread that does not keep the process alive."""
    threading.Thread(target=work, daemon=True).start()


def start_inline(work: Callable[[], None]) -> None:
    """Run `work` now."""
    work()


class ReplyPuller:
    """Pulls the replies to one institution's messages, one pull at a time.

    Args:
        grid: Flower's grid.
        start: Runs a pull.
        now: Time of the first message, in seconds of a monotonic clock.
        pause_s: Seconds between two pulls. The pause grows to a twentieth of the time waited, one second at most.
    """

    def __init__(self, grid: Grid, start: Start, now: float, pause_s: float) -> None:
        self._grid, self._start, self._begun, self._pause_s = grid, start, now, pause_s
        self._due = now
        self._is_pulling = False
        self._replies: list[Message] | None = None
        self._error: Exception | None = None

    def pull(self, identities: Sequence[str], now: float) -> tuple[list[Message], Exception | None]:
        """Begin a pull if one is due, and return the replies of the last pull and the error that ended it.

        An error other than httpx.HTTPError comes from the content of a reply.

        Args:
            identities: Identities of the messages whose replies are wanted.
            now: Time in seconds of the clock.
        """
        if not self._is_pulling and now >= self._due:
            self._is_pulling = True
            self._start(lambda: self._pull(list(identities)))
        if not self._is_pulling or self._replies is None:
            return [], None
        replies, error = self._replies, self._error
        self._replies, self._error, self._is_pulling = None, None, False
        self._due = now + min(_LONGEST_PAUSE_S, max(self._pause_s, (now - self._begun) / 20))
        return replies, error

    def _pull(self, identities: list[str]) -> None:
        replies: list[Message] = []
        try:
            replies = list(self._grid.pull_messages(identities))
        except Exception as error:
            self._error = error
        self._replies = replies  # set last: it shows that the pull has ended

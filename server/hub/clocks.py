"""The clocks of the institutions, as the gateway sees them by the time stamp that a node signs in every request.

Flower's messages carry the time until which they are valid, and each party compares it with its own clock. So the hub
gives an institution whose clock is ahead as many seconds more. Beyond five minutes it does not let it in.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable
from datetime import datetime

from common.files import write_atomic
from server.hub.directory import HubDirectory

__all__ = ["MOST_S", "WARN_S", "ClockWatch", "read_clocks"]

MOST_S = 300.0
"""Largest difference of clocks that is tolerated, in seconds."""
WARN_S = 30.0
_NEWS_S = 5.0
_NOTE_EVERY_S = 5.0
"""Seconds between two notes on one institution, so that changing time stamps keep nobody waiting for the disk."""
_SAY_EVERY_S = 3600.0
_LARGEST_FILE = 2**20

log = logging.getLogger("fedfin.gateway")


class ClockWatch:
    """Notes how far the clock of each institution is ahead of the hub's, and warns once an hour.

    Args:
        home: The hub's directory.
        now: The hub's clock, in seconds since 1970.
    """

    def __init__(self, home: HubDirectory, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = home.clocks_path, now
        self._ahead: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._noted: dict[str, float] = {}

    def observe(self, name: str, stamp: str) -> bool:
        """Note the time stamp of a request, and return whether the clock is near enough to the hub's.

        Args:
            name: The institution.
            stamp: The time in ISO 8601. A stamp that is no time tells nothing: the SuperLink refuses it.
        """
        now = self._now()
        try:
            ahead = datetime.fromisoformat(stamp).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return True
        is_due = abs(now - self._noted.get(name, -math.inf)) >= _NOTE_EVERY_S
        if is_due and abs(ahead - self._ahead.get(name, math.inf)) > _NEWS_S:
            self._ahead[name], self._noted[name] = round(ahead, 1), now
            # An institution whose clock is not known gets no more time. A full disk must not refuse it.
            with contextlib.suppress(OSError):
                write_atomic(self._path, json.dumps(self._ahead).encode(), mode=0o600, sync=False)
        if abs(ahead) > WARN_S and now - self._said.get(name, -math.inf) > _SAY_EVERY_S:
            self._said[name] = now
            way = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the hub's"
            state = "is refused" if abs(ahead) > MOST_S else f"would be refused beyond {MOST_S:.0f} s"
            log.warning("the clock of %s is %s, and %s: set the clock that is wrong", name, way, state)
        return abs(ahead) <= MOST_S


def read_clocks(home: HubDirectory) -> dict[str, float]:
    """Return the seconds by which the clock of each institution is ahead of the hub's, as last seen."""
    try:
        with home.clocks_path.open("rb") as file:
            return {str(name): float(ahead) for name, ahead in json.loads(file.read(_LARGEST_FILE)).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

"""The number of bytes that an institution may send in a round, told by each run's process to the gateway.

The gateway sees sealed bytes and knows no run. So a run's process writes the largest size of a reply to a file of the
hub's state, anew for each round.
"""

import contextlib
import json
import time
from collections.abc import Callable

from common.files import write_atomic
from server.hub.directory import HubDirectory

__all__ = ["UploadQuota", "allow_uploads", "end_uploads"]

_BASE_BYTES = 4 * 2**20
"""Allowance in bytes for everything but replies: heartbeats, questions, answers of other kinds."""
_REFILL_BYTES_PER_S = 2**16
_COPIES = 4
"""Number of times that a reply may be sent. It is sent again after a broken connection."""


def allow_uploads(home: HubDirectory, run: str, round_: int, reply_bytes: int) -> None:
    """Let every institution send replies of a round. The allowance of earlier rounds ends.

    Args:
        home: The hub's directory.
        run: Name of the run.
        round_: Number of the round.
        reply_bytes: Largest size of a reply.

    Raises:
        OSError: The file cannot be written.
    """
    value = json.dumps({"round": round_, "bytes": reply_bytes})
    write_atomic(home.uploads_path / f"{run}.json", value.encode(), mode=0o600)


def end_uploads(home: HubDirectory, run: str) -> None:
    """End the allowance of a run. Raises OSError."""
    (home.uploads_path / f"{run}.json").unlink(missing_ok=True)


class UploadQuota:
    """Counts the bytes of each institution against what the runs under way allow.

    Args:
        home: The hub's directory.
        monotonic: Clock in seconds.
    """

    def __init__(self, home: HubDirectory, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path, self._monotonic = home.uploads_path, monotonic
        self._stamp: object = None
        self._most = _BASE_BYTES
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str, size: int) -> bool:
        """Count a request, and return whether it is within the quota.

        Args:
            name: The institution.
            size: Bytes of the request.
        """
        self._refresh()
        now = self._monotonic()
        left, since = self._left.get(name, (float(self._most), now))
        left = min(self._most, left + _REFILL_BYTES_PER_S * (now - since))
        is_within = size <= left
        self._left[name] = (left - size if is_within else left, now)
        return is_within

    def _refresh(self) -> None:
        stamp, replies = [], 0
        for path in sorted(self._path.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                status = path.stat()
                stamp.append((path.name, status.st_mtime_ns, status.st_ino))
                replies += int(json.loads(path.read_bytes())["bytes"])
        if stamp != self._stamp:
            self._stamp, self._most, self._left = stamp, _BASE_BYTES + _COPIES * replies, {}

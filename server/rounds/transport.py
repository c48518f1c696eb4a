"""The way in which sealed messages reach institutions."""

from collections.abc import Mapping
from typing import Protocol

from server.rounds.admission import Failure

__all__ = ["Transport"]


class Transport(Protocol):
    """Carries sealed bytes to institutions and back. It cannot read them."""

    def exchange(self, round_: int, sealed: Mapping[str, bytes], deadline_s: float) -> Mapping[str, bytes | Failure]:
        """Return each institution's sealed answer or the reason for its absence, by the deadline.

        Args:
            round_: Number of the round.
            sealed: Sealed assignment by institution.
            deadline_s: Seconds from now. An institution that is absent from the result counts as silent.
        """
        ...

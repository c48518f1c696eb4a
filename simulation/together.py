"""Let several institutions of one process answer, and compute the gradients of those at the same adapter together.

Everything else stays each institution's own: it admits the question, charges its ledger, draws its batch, adds its
noise and seals its answer. Its answer has the bits that it has if it answers by itself (`client.dp.shared_sums`).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from client.dp.pause import BatchSum, Draw, Pausing
from client.dp.shared_sums import sums_together
from common.errors import FedfinError
from common.protocol.adapter_codec import Tensors

__all__ = ["answer_together"]

_OPEN_NUMBERS = 2**23
"""Numbers of the sums that wait at the same time: 64 MiB. Each institution also holds its adapter a few times."""

_MOST_OPEN, _FEWEST_OPEN = 256, 8
"""Institutions that wait at the same time. Each holds its ledger open, and a process may open 1,024 files."""

Answer = bytes | FedfinError


def answer_together(work: Mapping[str, Pausing[bytes]]) -> dict[str, Answer]:
    """Return the answer of each institution, or the error with which it failed. No failure disturbs another.

    Args:
        work: The work of each institution, which has not begun, by name.
    """
    room = _Room()
    try:
        for name, steps in work.items():
            room.take_in(name, steps)
        room.empty()
    finally:
        for steps in work.values():
            steps.close()
    return {name: room.answers[name] for name in work}


@dataclass(frozen=True)
class _Waiting:
    name: str
    steps: Pausing[bytes]
    draw: Draw


class _Room:
    """The institutions that wait for gradients at the same adapter, and the answers so far."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self._waiting: list[_Waiting] = []
        self._adapter: Tensors = {}

    def take_in(self, name: str, steps: Pausing[bytes]) -> None:
        """Begin the work of an institution. It waits here if it has drawn a batch, and otherwise ends."""
        draw = self._advance(name, lambda: next(steps))
        # It draws again only in a further training, and one at another adapter shares nothing.
        while draw is not None and self._waiting and not draw.may_share(self._waiting[0].draw):
            draw = self._advance(name, lambda: steps.send(None))
        if draw is None:
            return
        if not self._waiting:
            self._adapter = draw.model.export()
        self._waiting.append(_Waiting(name, steps, draw))
        room = max(_FEWEST_OPEN, min(_MOST_OPEN, _OPEN_NUMBERS // draw.model.parameters_trained))
        if len(self._waiting) >= room:
            self.empty()

    def empty(self) -> None:
        """Compute the gradients of all that wait, and let each go on."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        model = waiting[0].draw.model
        model.load(self._adapter)
        sums: list[BatchSum | None] = [None] * len(waiting)
        if len(waiting) > 1:
            # If they cannot be computed together, each computes its own, and only those that cannot either fail.
            with suppress(FedfinError):
                sums = list(sums_together([each.draw for each in waiting]))
        for each, own in zip(waiting, sums, strict=True):
            model.load(self._adapter)
            self._end(each, own)

    def _end(self, waiting: _Waiting, own: BatchSum | None) -> None:
        steps = waiting.steps
        draw = self._advance(waiting.name, lambda: steps.send(own))
        while draw is not None:
            draw = self._advance(waiting.name, lambda: steps.send(None))

    def _advance(self, name: str, step: Callable[[], Draw]) -> Draw | None:
        """Return the next draw of an institution. None if it has ended, and its answer is known."""
        try:
            return step()
        except StopIteration as end:
            self.answers[name] = end.value
        except FedfinError as error:
            self.answers[name] = error
        return None

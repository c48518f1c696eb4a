"""Sealed bytes over a Flower grid, to the node of each institution and back, within the round's deadline.

Nothing here waits for ever: an exchange ends when everybody has answered, or at the deadline. Who is not connected
holds nobody up: once the others have answered in sufficient number, and have been given a moment, the round goes on.
"""

import time
from collections.abc import Callable, Mapping

from flwr.app import Error, Message
from flwr.serverapp import Grid

from common.errors import MessageError
from common.flower_internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower_records import from_error, from_record, to_record
from server.admission import Failure

__all__ = ["GridTransport", "OnProgress"]

_POLL_S = 0.2
_JOIN_WITHIN_S = 10.0
OnProgress = Callable[[int, tuple[str, ...], tuple[str, ...]], None]
"""Told, whenever it changes: the round, who has answered, and who is being waited for."""


class GridTransport:
    """The deployed and the simulated federation's transport; see `coordinator.Transport`.

    Outcomes other than an answer are `Failure`s: "silent" (not connected, or not any more), "late" (connected, and
    still at it at the deadline), "app" (it refused the app bundle), one of `RelayError`, or "error" (anything else).

    Args:
        connected: node ids by name, of those connected now.
        quorum: answers without which an absent institution is waited for until the deadline.
    """

    def __init__(
        self,
        grid: Grid,
        connected: Callable[[], Mapping[str, int]],
        quorum: int,
        on_progress: OnProgress = lambda *_: None,
    ) -> None:
        self._grid, self._connected, self._quorum, self._on_progress = grid, connected, quorum, on_progress

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        """Ask each institution as soon as it is connected; without an answer by the deadline it is late or silent."""
        begun = time.monotonic()
        answers: dict[str, bytes | Failure] = {}
        asked: dict[str, str] = {}
        unasked = dict(sealed)
        shown: object = None
        while (left := begun + deadline_s - time.monotonic()) > 0:
            connected = self._connected() if unasked else {}
            for name in sorted(unasked.keys() & connected.keys()):
                message = Message(to_record(unasked[name]), dst_node_id=connected[name], message_type="train", ttl=left)
                for identity in self._grid.push_messages([message]):
                    if identity:
                        asked[identity] = name
                        del unasked[name]
            for reply in self._grid.pull_messages(list(asked)) if asked else ():
                # By the message it answers: an error that the SuperLink writes has no other sender than itself.
                name = asked.get(reply.metadata.reply_to_message_id, "")
                outcome = _outcome(reply)
                if name and outcome is not None:
                    answers[name] = outcome
                    del asked[reply.metadata.reply_to_message_id]
            if shown != (shown := (tuple(sorted(answers)), tuple(sorted({*asked.values(), *unasked})))):
                self._on_progress(round_, *shown)
            if not asked and self._is_enough(answers, unasked, time.monotonic() - begun):
                break
            time.sleep(min(_POLL_S, max(0.0, left)))
        connected = self._connected() if asked else {}
        for name in asked.values():
            late = name in connected
            answers[name] = Failure("late" if late else "silent", "no answer by the deadline")
        return answers | {name: Failure("silent", "not connected") for name in unasked}

    def _is_enough(self, answers: Mapping[str, bytes | Failure], unasked: Mapping[str, bytes], waited_s: float) -> bool:
        contributions = sum(isinstance(answer, bytes) for answer in answers.values())
        return not unasked or (contributions >= self._quorum and waited_s >= _JOIN_WITHIN_S)


def _outcome(reply: Message) -> bytes | Failure | None:
    """What a reply says; None for the SuperLink's word that the question's time is over, which we know ourselves."""
    if reply.has_error():
        return _failure(reply.error)
    try:
        return from_record(reply.content)
    except MessageError as error:
        return Failure("error", str(error))


def _failure(error: Error) -> Failure | None:
    if error.code in EXPIRED:
        return None
    known = from_error(error)
    if known is not None:
        return Failure(str(known), "the institution's relay says so")
    code = {APP_REFUSED: "app", NODE_LOST: "silent"}.get(error.code, "error")
    # Flower's own words could be an institution's: only the number is kept.
    return Failure(code, f"Flower's error {error.code}")

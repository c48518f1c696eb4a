"""Sealed bytes over a Flower grid, to the node of each institution and back, within the round's deadline.

Nothing here waits for ever: an exchange ends when everybody has answered, or at the deadline. Who is not connected
holds nobody up: once the others have answered in sufficient number, and have been given a moment, the round goes on.
Flower delivers a question at most once: where a connection breaks at that moment, it is lost. So it is asked again.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Error, Message
from flwr.serverapp import Grid

from common.errors import MessageError
from common.flower_internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower_records import RelayError, from_error, from_record, to_record
from server.admission import Failure

__all__ = ["GridTransport", "OnProgress"]

_POLL_S = 0.2
_JOIN_WITHIN_S = 10.0
OnProgress = Callable[[int, tuple[str, ...], tuple[str, ...]], None]
"""Told, whenever it changes: the round, who has answered, and who is being waited for."""


@dataclass
class _Asked:
    """An institution that was asked: the messages that are out, when to ask again, and what came for an answer."""

    messages: set[str]
    again: float
    pause: float
    failure: Failure | None = None


class GridTransport:
    """The deployed and the simulated federation's transport; see `coordinator.Transport`.

    Outcomes other than an answer are `Failure`s: "silent" (not connected, or not any more), "late" (connected, and
    still at it at the deadline), "app" (it refused the app bundle), one of `RelayError`, or "error" (anything else).

    Args:
        connected: node ids by name, of those connected now.
        quorum: answers without which an absent institution is waited for until the deadline.
        ask_again_s: after how long without an answer to ask again, and then after twice as long each time. Only where
            the same bytes are answered once (see `client.service`); None never asks again.
    """

    def __init__(
        self,
        grid: Grid,
        connected: Callable[[], Mapping[str, int]],
        quorum: int,
        on_progress: OnProgress = lambda *_: None,
        ask_again_s: float | None = None,
    ) -> None:
        self._grid, self._connected, self._quorum, self._on_progress = grid, connected, quorum, on_progress
        self._ask_again_s = ask_again_s

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        """Ask each institution as soon as it is connected; without an answer by the deadline it is late or silent."""
        begun = time.monotonic()
        answers: dict[str, bytes | Failure] = {}
        asked: dict[str, _Asked] = {}
        unasked = set(sealed)
        shown: object = None
        while (left := begun + deadline_s - time.monotonic()) > 0:
            due = unasked | {name for name, entry in asked.items() if time.monotonic() >= entry.again}
            connected = self._connected() if due else {}
            for name in sorted(due & connected.keys()):
                self._ask(name, sealed[name], connected[name], left, asked)
            unasked -= asked.keys()
            self._collect(asked, answers)
            if shown != (shown := (tuple(sorted(answers)), tuple(sorted({*asked, *unasked})))):
                self._on_progress(round_, *shown)
            if not asked and self._is_enough(answers, unasked, time.monotonic() - begun):
                break
            time.sleep(min(_POLL_S, max(0.0, left)))
        connected = self._connected() if asked else {}
        for name in asked:
            late = name in connected
            answers[name] = Failure("late" if late else "silent", "no answer by the deadline")
        return answers | {name: Failure("silent", "not connected") for name in unasked}

    def _ask(self, name: str, sealed: bytes, node_id: int, left: float, asked: dict[str, _Asked]) -> None:
        """Send the question, for the first time or again."""
        message = Message(to_record(sealed), dst_node_id=node_id, message_type="train", ttl=left)
        identities = {identity for identity in self._grid.push_messages([message]) if identity}
        if not identities:
            return
        entry = asked.setdefault(name, _Asked(set(), 0.0, self._ask_again_s or math.inf))
        entry.messages |= identities
        entry.again, entry.pause = time.monotonic() + entry.pause, 2 * entry.pause

    def _collect(self, asked: dict[str, _Asked], answers: dict[str, bytes | Failure]) -> None:
        """Take the replies that are there; the last that is still out decides where none is an answer."""
        # By the message it answers: an error that the SuperLink writes has no other sender than itself.
        names = {identity: name for name, entry in asked.items() for identity in entry.messages}
        for reply in self._grid.pull_messages(list(names)) if names else ():
            identity = reply.metadata.reply_to_message_id
            name, outcome = names.get(identity, ""), _outcome(reply)
            if name not in asked or outcome is None:
                continue
            entry = asked[name]
            entry.messages.discard(identity)
            if isinstance(outcome, bytes):
                answers[name] = outcome
            elif outcome.code != RelayError.WORKING:
                entry.failure = outcome
            if not entry.messages and entry.failure is not None:
                answers.setdefault(name, entry.failure)
            if name in answers:
                del asked[name]

    def _is_enough(self, answers: Mapping[str, bytes | Failure], unasked: set[str], waited_s: float) -> bool:
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

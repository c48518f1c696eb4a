"""Sealed bytes over a Flower grid, to the node of each institution and back, within the round's deadline.

Nothing here waits for ever: an exchange ends when everybody has answered, or at the deadline. Who is not connected
holds nobody up: once the others have answered in sufficient number, and have been given a moment, the round goes on.

Flower delivers a message at most once: where a connection breaks or a process dies at that moment, it is lost. A node
takes one message at a time. So one that answers a call, and not the question before it, does not have the question,
and is asked again.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from common.errors import MessageError
from common.flower.internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower.records import from_error, from_record, to_record
from server.rounds.admission import Failure

__all__ = ["GridTransport", "OnProgress"]

_POLL_S = 0.2
_JOIN_WITHIN_S = 10.0
_CALL_LIVES_S = 15.0  # a node that is free takes a message within three; of one that is busy the call goes by
OnProgress = Callable[[int, tuple[str, ...], tuple[str, ...]], None]
"""Told, whenever it changes: the round, who has answered, and who is being waited for."""


@dataclass
class _Asked:
    """One institution's question: the messages that carry it, the call that is out, and when to call next."""

    next_call: float
    pause: float
    messages: set[str] = field(default_factory=set)
    call: str | None = None


class GridTransport:
    """The deployed and the simulated federation's transport; see `coordinator.Transport`.

    Outcomes other than an answer are `Failure`s: "silent" (not connected, or not any more), "late" (connected, and
    still at it at the deadline), "app" (it refused the app bundle), one of `RelayError`, or "error" (anything else).

    Args:
        connected: node ids by name, of those connected now.
        quorum: answers without which an absent institution is waited for until the deadline.
        call_after_s: after how long without an answer to call, and then after twice as long each time; None never
            calls. Only for nodes whose app answers calls, and whose agents answer a question once.
    """

    def __init__(
        self,
        grid: Grid,
        connected: Callable[[], Mapping[str, int]],
        quorum: int,
        on_progress: OnProgress = lambda *_: None,
        call_after_s: float | None = None,
    ) -> None:
        self._grid, self._connected, self._quorum, self._on_progress = grid, connected, quorum, on_progress
        self._call_after_s = call_after_s or math.inf

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        """Ask each institution as soon as it is connected; without an answer by the deadline it is late or silent."""
        begun = time.monotonic()
        answers: dict[str, bytes | Failure] = {}
        asked: dict[str, _Asked] = {}
        lost: set[str] = set()
        shown: object = None
        while (left := begun + deadline_s - time.monotonic()) > 0:
            unasked = sealed.keys() - asked.keys() - answers.keys()
            uncalled = {name for name, entry in asked.items() if time.monotonic() >= entry.next_call}
            connected = self._connected() if unasked | uncalled | lost else {}
            for name in sorted((unasked | lost) & connected.keys()):
                if identity := self._push(to_record(sealed[name]), connected[name], "train", left):
                    later = time.monotonic() + self._call_after_s
                    asked.setdefault(name, _Asked(later, self._call_after_s)).messages.add(identity)
            for name in sorted(uncalled & connected.keys()):
                self._call(asked[name], connected[name], left)
            lost = self._collect(asked, answers)
            if shown != (shown := (tuple(sorted(answers)), tuple(sorted(sealed.keys() - answers.keys())))):
                self._on_progress(round_, *shown)
            if not asked and self._is_enough(answers, sealed, time.monotonic() - begun):
                break
            time.sleep(min(_POLL_S, max(0.0, left)))
        connected = self._connected() if asked else {}
        for name in asked:
            late = name in connected
            answers[name] = Failure("late" if late else "silent", "no answer by the deadline")
        return {name: answers.get(name, Failure("silent", "not connected")) for name in sealed}

    def _push(self, record: RecordDict, node_id: int, kind: str, ttl: float) -> str:
        """Its identity; empty when Flower did not take it."""
        message = Message(record, dst_node_id=node_id, message_type=kind, ttl=ttl)
        return next(iter(self._grid.push_messages([message])), "")

    def _call(self, entry: _Asked, node_id: int, left: float) -> None:
        entry.call = self._push(to_record(b""), node_id, "query", min(left, _CALL_LIVES_S)) or None
        entry.pause *= 2
        entry.next_call = time.monotonic() + entry.pause

    def _collect(self, asked: dict[str, _Asked], answers: dict[str, bytes | Failure]) -> set[str]:
        """Take the replies that are there; returns whose question is lost."""
        # By the message it answers: an error that the SuperLink writes has no other sender than itself.
        questions = {identity: name for name, entry in asked.items() for identity in entry.messages}
        calls = {entry.call: name for name, entry in asked.items() if entry.call is not None}
        free, gone = set(), set()
        for reply in self._grid.pull_messages([*questions, *calls]) if questions else ():
            identity = reply.metadata.reply_to_message_id
            if identity in calls:
                asked[calls[identity]].call = None
                if not reply.has_error():
                    free.add(calls[identity])
            elif identity in questions and reply.has_error() and reply.error.code == NODE_LOST:
                gone.add(questions[identity])  # and is asked when it is there again
            elif identity in questions and (outcome := _outcome(reply)) is not None:
                answers[questions[identity]] = outcome
        for name in asked.keys() & (answers.keys() | gone):
            del asked[name]
        return free & asked.keys()

    def _is_enough(self, answers: Mapping[str, bytes | Failure], sealed: Mapping[str, bytes], waited_s: float) -> bool:
        contributions = sum(isinstance(answer, bytes) for answer in answers.values())
        return len(answers) == len(sealed) or (contributions >= self._quorum and waited_s >= _JOIN_WITHIN_S)


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
    code = "app" if error.code == APP_REFUSED else "error"
    # Flower's own words could be an institution's: only the number is kept.
    return Failure(code, f"Flower's error {error.code}")

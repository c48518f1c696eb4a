"""Carry sealed bytes over a Flower grid to the node of each institution and back, within the round's deadline.

Nothing here waits without a limit. An exchange ends when every institution has answered, or at the deadline. A
disconnected institution does not delay the others: the exchange ends once all connected institutions have answered,
the quorum is met and ten seconds have passed. The replies of each institution are pulled apart from those of the
others (see `server.flower.replies`), so an institution that announces content and does not upload it is late alone, and
one whose content cannot be decoded fails alone.

Flower delivers a message at most once. A message is lost if a connection breaks or a process dies during delivery. A
node takes one message at a time. If a node answers an empty message but not the assignment sent before it, the
assignment was lost, and it is sent again.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from common.errors import MessageError
from common.flower.internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower.records import from_error, from_record, to_record
from common.protocol.outcomes import RoundOutcome
from server.flower.replies import ReplyPuller, Start, start_thread
from server.hub.clocks import MOST_S
from server.rounds.admission import Failure
from server.rounds.spool import Spool

__all__ = ["GridTransport", "OnProgress"]

_CONNECTED_POLL_S, _REPLY_POLL_S = 0.2, 0.1
_JOIN_WITHIN_S = 10.0
_CALL_TTL_S = 15.0
"""Time to live of an empty message, in seconds. A free node takes it within three."""
log = logging.getLogger("fedfin.run")
OnProgress = Callable[[int, tuple[str, ...], tuple[str, ...]], None]
"""Called with the round, the institutions that have answered and those that have not, whenever these change."""


@dataclass
class _Asked:
    """The messages that carry one institution's assignment, its empty message under way, and when to send the next."""

    next_call: float
    pause: float
    puller: ReplyPuller
    messages: set[str] = field(default_factory=set)
    call: str | None = None

    @property
    def identities(self) -> list[str]:
        """Identities of all messages to the institution that have no reply yet."""
        return [*sorted(self.messages), *([self.call] if self.call else [])]


class GridTransport:
    """The transport of deployed federations and of Flower's simulation engine. See `coordinator.Transport`.

    An institution without an answer has one of these outcomes: FAILED_SILENT (not connected, or not any more),
    FAILED_LATE (connected, no answer by the deadline), FAILED_APP (its node refused the app bundle), the outcome of a
    `RelayError`, or FAILED_ERROR (anything else).

    Args:
        grid: Flower's grid.
        connected: Returns the node ids of the institutions that are connected now, by name.
        quorum: Number of answers after which the exchange no longer waits for disconnected institutions.
        on_progress: Called whenever the institutions that have answered change.
        call_after_s: Seconds without an answer after which an institution is sent an empty message, and then after
            twice as long each time. None sends none. Only for nodes whose app answers empty messages, and whose agents
            answer the same assignment once.
        monotonic: Clock in seconds.
        sleep: Waits for a number of seconds of that clock.
        spool: Makes the place that holds the answers of an exchange, in memory by default.
        clocks: Returns the seconds by which the clock of each institution is ahead of the hub's. A message to it lives
            that much longer, since Flower's node compares the message's end with its own clock.
        start: Runs the pull of one institution's replies, by default in a thread.
    """

    def __init__(
        self,
        grid: Grid,
        connected: Callable[[], Mapping[str, int]],
        quorum: int,
        on_progress: OnProgress = lambda *_: None,
        call_after_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        start: Start = start_thread,
        clocks: Callable[[], Mapping[str, float]] = dict,
        spool: Callable[[], Spool[bytes | Failure]] = Spool,
    ) -> None:
        self._grid, self._connected, self._quorum, self._on_progress = grid, connected, quorum, on_progress
        self._call_after_s = call_after_s or math.inf
        self._monotonic, self._sleep, self._start = monotonic, sleep, start
        self._clocks, self._spool = clocks, spool

    def exchange(self, round_: int, sealed: Mapping[str, bytes], deadline_s: float) -> Spool[bytes | Failure]:
        """Send each institution its assignment as soon as it is connected, and return the answers by the deadline.

        Args:
            round_: Number of the round, for `on_progress`.
            sealed: Assignment of each institution, by name.
            deadline_s: Seconds from now.
        """
        begun = self._monotonic()
        answers = self._spool()
        asked: dict[str, _Asked] = {}
        lost: set[str] = set()
        shown: object = None
        while (left := begun + deadline_s - self._monotonic()) > 0:
            unasked = sealed.keys() - asked.keys() - answers.keys()
            uncalled = {name for name, entry in asked.items() if self._monotonic() >= entry.next_call}
            connected = self._connected() if unasked | uncalled | lost else {}
            ahead = self._clocks() if connected else {}
            for name in sorted((unasked | lost) & connected.keys()):
                ttl = left + _extra_s(ahead, name)
                if identity := self._push(to_record(sealed[name]), connected[name], "train", ttl):
                    asked.setdefault(name, self._new_entry()).messages.add(identity)
            for name in sorted(uncalled & connected.keys()):
                self._call(asked[name], connected[name], min(left, _CALL_TTL_S) + _extra_s(ahead, name))
            lost = self._collect(asked, answers)
            if shown != (shown := (tuple(sorted(answers)), tuple(sorted(sealed.keys() - answers.keys())))):
                self._on_progress(round_, *shown)
            if not asked and self._is_enough(answers, sealed, self._monotonic() - begun):
                break
            is_asked = asked.keys() | answers.keys() >= sealed.keys()
            self._sleep(min(_REPLY_POLL_S if is_asked else _CONNECTED_POLL_S, max(0.0, left)))
        connected = self._connected() if asked else {}
        for name in asked:
            outcome = RoundOutcome.FAILED_LATE if name in connected else RoundOutcome.FAILED_SILENT
            answers[name] = Failure(outcome, "no answer by the deadline")
        for name in sealed:
            if name not in answers:
                answers[name] = Failure(RoundOutcome.FAILED_SILENT, "not connected")
            if isinstance(answer := answers[name], Failure):
                log.warning("round %d: no reply of %s: %s", round_, name, answer.message)
        return answers

    def _new_entry(self) -> _Asked:
        now = self._monotonic()
        puller = ReplyPuller(self._grid, self._start, now, _REPLY_POLL_S)
        return _Asked(now + self._call_after_s, self._call_after_s, puller)

    def _push(self, record: RecordDict, node_id: int, kind: str, ttl: float) -> str:
        """Send a message and return its identity, or "" if Flower did not take it."""
        message = Message(record, dst_node_id=node_id, message_type=kind, ttl=ttl)
        return next(iter(self._grid.push_messages([message])), "")

    def _call(self, entry: _Asked, node_id: int, ttl: float) -> None:
        entry.call = self._push(to_record(b""), node_id, "query", ttl) or None
        entry.pause *= 2
        entry.next_call = self._monotonic() + entry.pause

    def _collect(self, asked: dict[str, _Asked], answers: Spool[bytes | Failure]) -> set[str]:
        """Take the replies that have arrived, and return the institutions whose assignment was lost."""
        free, gone = set(), set()
        for name, entry in asked.items():
            replies, error = entry.puller.pull(entry.identities, self._monotonic())
            if isinstance(error, httpx.HTTPError):
                self._connected()  # raises if the SuperLink is gone, else the next pull may succeed
            elif error is not None:
                # The text of the error may hold bytes of the institution: only its type is kept.
                answers[name] = Failure(RoundOutcome.FAILED_ERROR, f"undecodable content ({type(error).__name__})")
            for reply in replies:
                # Attributed by the message it answers: the sender of the SuperLink's own errors is the SuperLink.
                identity = reply.metadata.reply_to_message_id
                if identity == entry.call:
                    entry.call = None
                    if not reply.has_error():
                        free.add(name)
                elif identity in entry.messages and reply.has_error() and reply.error.code == NODE_LOST:
                    gone.add(name)  # it is asked again once its node is back
                elif identity in entry.messages and (outcome := _outcome(reply)) is not None:
                    answers[name] = outcome
        for name in asked.keys() & (answers.keys() | gone):
            del asked[name]
        return free & asked.keys()

    def _is_enough(self, answers: Spool[bytes | Failure], sealed: Mapping[str, bytes], waited_s: float) -> bool:
        return len(answers) == len(sealed) or (answers.messages >= self._quorum and waited_s >= _JOIN_WITHIN_S)


def _extra_s(ahead: Mapping[str, float], name: str) -> float:
    """Return the seconds that a message lives longer: up to five minutes, whatever time the institution states."""
    return min(max(0.0, ahead.get(name, 0.0)), MOST_S)


def _outcome(reply: Message) -> bytes | Failure | None:
    """Return the answer in a reply. None for the SuperLink's note that the message has expired."""
    if reply.has_error():
        return _failure(reply.error)
    try:
        return from_record(reply.content)
    except MessageError as error:
        return Failure(RoundOutcome.FAILED_ERROR, str(error))


def _failure(error: Error) -> Failure | None:
    if error.code in EXPIRED:
        return None
    relay_error = from_error(error)
    if relay_error is not None:
        return Failure(RoundOutcome(f"failed:{relay_error}"), "reported by the institution's relay")
    outcome = RoundOutcome.FAILED_APP if error.code == APP_REFUSED else RoundOutcome.FAILED_ERROR
    # The text of the error may come from an institution: only the number is kept.
    return Failure(outcome, f"Flower's error {error.code}")

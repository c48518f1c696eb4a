"""Sealed bytes over a grid: every institution has an outcome by the deadline, and no wait is in vain."""

import threading
import time
from collections.abc import Callable, Iterable

import httpx
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from common.flower.internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower.records import RelayError, from_record, to_error, to_record
from common.protocol.outcomes import RoundOutcome
from server.flower.grid import GridTransport
from server.flower.replies import start_inline
from server.rounds.admission import Failure

Answer = Callable[[Message], Message | None]
LATE = Failure(RoundOutcome.FAILED_LATE, "no answer by the deadline")
NOT_CONNECTED = Failure(RoundOutcome.FAILED_SILENT, "not connected")


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)


class FakeGrid:
    """Nodes are functions from a question to an answer, or to nothing."""

    def __init__(self, nodes: dict[int, Answer]) -> None:
        self.nodes = nodes
        self.asked: dict[str, Message] = {}
        self.ttls: list[float] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        identities = []
        for message in messages:
            identity = f"m{len(self.asked)}"
            message.metadata.__dict__["_message_id"] = identity
            self.asked[identity] = message
            self.ttls.append(message.metadata.ttl)
            identities.append(identity)
        return identities

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        found = (self.nodes[self.asked[i].metadata.dst_node_id](self.asked[i]) for i in identities)
        return [reply for reply in found if reply is not None]


def echo(question: Message) -> Message:
    return Message(to_record(from_record(question.content) + b"!"), reply_to=question)


def silent(_: Message) -> None:
    return None


def failing(error: Error) -> Answer:
    return lambda question: Message(error, reply_to=question)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    # Flower sets it in the process that executes a run.
    monkeypatch.setattr(TaskIdentity, "_task_id", 5)
    monkeypatch.setattr(TaskIdentity, "_run_id", 7)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)


def over(
    grid: FakeGrid,
    connected: Callable[[], dict[str, int]],
    quorum: int,
    clock: Clock,
    call_after_s: float | None = None,
) -> GridTransport:
    return GridTransport(
        grid,
        connected,
        quorum,
        call_after_s=call_after_s,
        monotonic=clock.monotonic,
        sleep=clock.sleep,
        start=start_inline,
    )


def transport(
    nodes: dict[str, Answer],
    clock: Clock,
    quorum: int = 1,
    connected: set[str] | None = None,
    call_after_s: float | None = None,
) -> GridTransport:
    ids = {name: number for number, name in enumerate(nodes, start=1)}
    fake = FakeGrid({ids[name]: answer for name, answer in nodes.items()})
    online = {name: ids[name] for name in (connected if connected is not None else nodes)}
    return over(fake, lambda: online, quorum, clock, call_after_s)


class Node:
    """A node that takes one message at a time: it loses the first `loses` questions, and answers after `seconds`."""

    def __init__(self, clock: Clock, loses: int = 0, seconds: float = 0.0) -> None:
        self.clock, self.loses, self.seconds = clock, loses, seconds
        self.taken: dict[str, float | None] = {}
        self.answered: list[bytes] = []

    def __call__(self, message: Message) -> Message | None:
        identity = message.metadata.message_id
        busy = [at for other, at in self.taken.items() if other != identity and at is not None]
        if any(self.clock.now < at for at in busy):
            return None
        is_call = message.metadata.message_type == "query"
        if identity not in self.taken:
            lost = not is_call and sum(at is None for at in self.taken.values()) < self.loses
            self.taken[identity] = None if lost else self.clock.now + (0 if is_call else self.seconds)
        at = self.taken[identity]
        if at is None or self.clock.now < at:
            return None
        if not is_call:
            self.answered.append(from_record(message.content))
        return Message(to_record(b""), reply_to=message) if is_call else echo(message)


def test_every_institution_is_asked_and_the_answers_carry_their_names(clock: Clock) -> None:
    found = transport({"a": echo, "b": echo}, clock).exchange(1, {"a": b"1", "b": b"2"}, 5)
    assert found == {"a": b"1!", "b": b"2!"}


def test_an_assignment_lives_as_long_as_the_round(clock: Clock) -> None:
    carrier = transport({"a": echo}, clock)
    carrier.exchange(1, {"a": b"1"}, 5)
    assert carrier._grid.ttls == [5]


def test_an_institution_without_an_answer_is_late_while_connected_and_silent_otherwise(clock: Clock) -> None:
    fake = FakeGrid({1: echo, 2: silent, 3: silent})

    def connected() -> dict[str, int]:
        return {"a": 1, "b": 2} | ({"c": 3} if clock.now <= 30 else {})

    found = over(fake, connected, 1, clock).exchange(1, {"a": b"1", "b": b"2", "c": b"3"}, 60)
    assert found == {"a": b"1!", "b": LATE, "c": Failure(RoundOutcome.FAILED_SILENT, "no answer by the deadline")}
    assert 60 <= clock.now < 60.01


def test_a_disconnected_institution_delays_the_others_by_ten_seconds_at_most(clock: Clock) -> None:
    found = transport({"a": echo, "b": echo}, clock, quorum=1, connected={"a"}).exchange(1, {"a": b"1", "b": b"2"}, 60)
    assert found == {"a": b"1!", "b": NOT_CONNECTED}
    assert 10 <= clock.now < 11


def test_without_a_quorum_a_disconnected_institution_is_waited_for_and_asked_when_it_connects(clock: Clock) -> None:
    fake = FakeGrid({1: echo, 2: echo})

    def connected() -> dict[str, int]:
        return {"a": 1, "b": 2} if clock.now > 40 else {"a": 1}

    found = over(fake, connected, 2, clock).exchange(1, {"a": b"1", "b": b"2"}, 60)
    assert found == {"a": b"1!", "b": b"2!"}
    assert 40 < clock.now < 42


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (to_error(RelayError.UNAVAILABLE), RoundOutcome.FAILED_UNAVAILABLE),
        (to_error(RelayError.BUSY), RoundOutcome.FAILED_BUSY),
        (Error(APP_REFUSED, "x"), RoundOutcome.FAILED_APP),
        (Error(2, "<class 'RuntimeError'>: private text"), RoundOutcome.FAILED_ERROR),
        (Error(700, "private text"), RoundOutcome.FAILED_ERROR),
    ],
)
def test_an_error_becomes_one_word_and_its_text_goes_nowhere(error: Error, outcome: RoundOutcome, clock: Clock) -> None:
    found = transport({"a": failing(error)}, clock).exchange(1, {"a": b"1"}, 5)["a"]
    assert isinstance(found, Failure)
    assert found.outcome is outcome
    assert "private" not in found.message


def test_an_error_is_attributed_by_the_message_it_answers_not_by_its_sender(clock: Clock) -> None:
    def refused(question: Message) -> Message:
        reply = Message(Error(APP_REFUSED, ""), reply_to=question)
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    found = transport({"a": echo, "b": refused}, clock).exchange(1, {"a": b"1", "b": b"2"}, 5)
    assert found["a"] == b"1!"
    assert isinstance(found["b"], Failure)


def test_an_expired_message_is_not_an_answer(clock: Clock) -> None:
    assert transport({"a": failing(Error(min(EXPIRED), ""))}, clock).exchange(1, {"a": b"1"}, 5)["a"] == LATE


def test_an_answer_of_another_app_is_an_error(clock: Clock) -> None:
    def other(question: Message) -> Message:
        return Message(RecordDict(), reply_to=question)

    found = transport({"a": other}, clock).exchange(1, {"a": b"1"}, 5)["a"]
    assert isinstance(found, Failure)
    assert found.outcome is RoundOutcome.FAILED_ERROR


def test_an_assignment_that_was_lost_on_the_way_is_sent_again_with_the_same_bytes(clock: Clock) -> None:
    node = Node(clock, loses=2)
    carrier = transport({"a": node}, clock, call_after_s=20)
    assert carrier.exchange(1, {"a": b"1"}, 600) == {"a": b"1!"}
    assert 60 <= clock.now < 64  # after 20 s, and after 40 s more
    assert node.answered == [b"1"]
    kinds = [message.metadata.message_type for message in carrier._grid.asked.values()]
    assert kinds == ["train", "query", "train", "query", "train"]
    # None lives longer than the round.
    assert max(carrier._grid.ttls) <= 600


def test_a_node_at_work_is_sent_empty_messages_and_not_the_assignment_again(clock: Clock) -> None:
    node = Node(clock, seconds=200.0)
    carrier = transport({"a": node}, clock, call_after_s=20)
    assert carrier.exchange(1, {"a": b"1"}, 600) == {"a": b"1!"}
    kinds = [message.metadata.message_type for message in carrier._grid.asked.values()]
    assert kinds == ["train", "query", "query", "query"]  # after 20, 60 and 140 s
    assert node.answered == [b"1"]


def test_no_empty_message_is_sent_unless_the_nodes_answer_them(clock: Clock) -> None:
    carrier = transport({"a": Node(clock, loses=1)}, clock)
    assert carrier.exchange(1, {"a": b"1"}, 600)["a"] == LATE
    assert len(carrier._grid.asked) == 1


def test_an_empty_message_that_comes_back_as_an_error_shows_nothing(clock: Clock) -> None:
    def only_errors(message: Message) -> Message | None:
        if message.metadata.message_type == "train":
            return None
        return Message(Error(min(EXPIRED), ""), reply_to=message)

    carrier = transport({"a": only_errors}, clock, call_after_s=20)
    assert carrier.exchange(1, {"a": b"1"}, 300)["a"] == LATE
    kinds = [message.metadata.message_type for message in carrier._grid.asked.values()]
    assert kinds.count("train") == 1


@pytest.mark.parametrize("returns", [True, False])
def test_an_institution_whose_node_is_lost_is_asked_when_it_returns_and_silent_otherwise(
    returns: bool, clock: Clock
) -> None:
    def connected() -> dict[str, int]:
        return {"a": 1} if clock.now < 10 or (returns and clock.now > 40) else {}

    def node(question: Message) -> Message | None:
        if clock.now > 40:
            return echo(question)
        return Message(Error(NODE_LOST, ""), reply_to=question) if clock.now > 10 else None

    found = over(FakeGrid({1: node}), connected, 1, clock).exchange(1, {"a": b"1"}, 100)
    assert found == {"a": b"1!" if returns else NOT_CONNECTED}


@pytest.mark.parametrize(
    "error", [ValueError("private"), KeyError("private"), RecursionError("private"), MemoryError()]
)
def test_content_that_cannot_be_decoded_costs_only_its_sender_its_place(
    error: Exception, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Message) -> Message:
        raise error

    found = transport({"a": echo, "b": broken, "c": echo}, clock).exchange(1, {"a": b"1", "b": b"2", "c": b"3"}, 60)
    assert (found["a"], found["c"]) == (b"1!", b"3!")
    assert isinstance(found["b"], Failure)
    assert found["b"].outcome is RoundOutcome.FAILED_ERROR
    assert "private" not in found["b"].message
    assert "round 1: no reply of b: undecodable content" in caplog.text  # the log of the run names it
    assert "private" not in caplog.text


def test_content_that_is_announced_and_never_uploaded_delays_nobody_beyond_the_deadline() -> None:
    never = threading.Event()

    def stalled(_: Message) -> None:
        never.wait(30)

    fake = FakeGrid({1: echo, 2: stalled})
    begun = time.monotonic()
    carrier = GridTransport(fake, lambda: {"a": 1, "b": 2}, 1)
    found = carrier.exchange(1, {"a": b"1", "b": b"2"}, 1.0)
    never.set()
    assert found == {"a": b"1!", "b": LATE}
    assert time.monotonic() - begun < 3


def test_a_message_lives_longer_by_what_a_clock_is_ahead(clock: Clock) -> None:
    fake = FakeGrid({1: echo, 2: echo, 3: echo, 4: echo})
    online = {"ahead": 1, "behind": 2, "lying": 4, "unknown": 3}
    clocks = {"ahead": 120.0, "behind": -120.0, "lying": 1e12}
    given = {"monotonic": clock.monotonic, "sleep": clock.sleep, "start": start_inline}
    carrier = GridTransport(fake, lambda: online, len(online), clocks=lambda: clocks, **given)
    carrier.exchange(1, dict.fromkeys(online, b"1"), 60)
    assert [*zip(sorted(online), fake.ttls, strict=True)] == [
        ("ahead", 180), ("behind", 60), ("lying", 360), ("unknown", 60)
    ]  # fmt: skip


def test_a_superlink_that_answers_a_pull_with_an_error_once_is_asked_again(clock: Clock) -> None:
    fails = iter([True, True])

    def flaky(question: Message) -> Message:
        if next(fails, False):
            raise httpx.ReadTimeout("slow")
        return echo(question)

    assert transport({"a": flaky}, clock).exchange(1, {"a": b"1"}, 60) == {"a": b"1!"}


def test_a_superlink_that_is_gone_ends_the_exchange(clock: Clock) -> None:
    def unreachable(_: Message) -> Message:
        raise httpx.ConnectError("refused")

    def connected() -> dict[str, int]:
        if clock.now > 1:
            raise httpx.ConnectError("refused")
        return {"a": 1}

    with pytest.raises(httpx.ConnectError):
        over(FakeGrid({1: unreachable}), connected, 1, clock).exchange(1, {"a": b"1"}, 60)

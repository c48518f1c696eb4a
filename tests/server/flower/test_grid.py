"""Sealed bytes over a grid: every institution has an outcome by the deadline, and nobody is waited for in vain."""

import time
from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from common.flower.internals import APP_REFUSED, EXPIRED, NODE_LOST
from common.flower.records import RelayError, from_record, to_error, to_record
from server.flower import grid as grid_module
from server.flower.grid import GridTransport
from server.rounds.admission import Failure

Answer = Callable[[Message], Message | None]


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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "_POLL_S", 0.01)
    monkeypatch.setattr(grid_module, "_JOIN_WITHIN_S", 0.2)
    # Flower sets it in the process that plays a run.
    monkeypatch.setattr(TaskIdentity, "_task_id", 5)
    monkeypatch.setattr(TaskIdentity, "_run_id", 7)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)


def transport(
    nodes: dict[str, Answer], quorum: int = 1, connected: set[str] | None = None, call_after_s: float | None = None
) -> GridTransport:
    ids = {name: number for number, name in enumerate(nodes, start=1)}
    fake = FakeGrid({ids[name]: answer for name, answer in nodes.items()})
    online = {name: ids[name] for name in (connected if connected is not None else nodes)}
    return GridTransport(fake, lambda: online, quorum, call_after_s=call_after_s)  # type: ignore[arg-type]


class Node:
    """A node that takes one message at a time: it loses the first `loses` questions, and answers after `seconds`."""

    def __init__(self, loses: int = 0, seconds: float = 0.0) -> None:
        self.loses, self.seconds = loses, seconds
        self.taken: dict[str, float | None] = {}
        self.answered: list[bytes] = []

    def __call__(self, message: Message) -> Message | None:
        identity = message.metadata.message_id
        busy = [at for other, at in self.taken.items() if other != identity and at is not None]
        if any(time.monotonic() < at for at in busy):
            return None
        is_call = message.metadata.message_type == "query"
        if identity not in self.taken:
            lost = not is_call and sum(at is None for at in self.taken.values()) < self.loses
            self.taken[identity] = None if lost else time.monotonic() + (0 if is_call else self.seconds)
        at = self.taken[identity]
        if at is None or time.monotonic() < at:
            return None
        if not is_call:
            self.answered.append(from_record(message.content))
        return Message(to_record(b""), reply_to=message) if is_call else echo(message)


def test_everybody_is_asked_and_the_answers_carry_their_names() -> None:
    found = transport({"a": echo, "b": echo}).exchange(1, {"a": b"1", "b": b"2"}, 5)
    assert found == {"a": b"1!", "b": b"2!"}


def test_a_question_lives_as_long_as_the_round() -> None:
    given = transport({"a": echo})
    given.exchange(1, {"a": b"1"}, 5)
    assert 4.5 < given._grid.ttls[0] <= 5  # type: ignore[attr-defined]


def test_one_without_an_answer_is_late_while_connected_and_silent_otherwise() -> None:
    begun = time.monotonic()
    online = {"a": 1, "b": 2, "c": 3}
    fake = FakeGrid({1: echo, 2: silent, 3: silent})

    def connected() -> dict[str, int]:
        if time.monotonic() - begun > 0.3:
            online.pop("c", None)
        return dict(online)

    found = GridTransport(fake, connected, 1).exchange(1, {"a": b"1", "b": b"2", "c": b"3"}, 0.6)  # type: ignore[arg-type]
    assert found["a"] == b"1!"
    assert {name: reply.code for name, reply in found.items() if isinstance(reply, Failure)} == {
        "b": "late",
        "c": "silent",
    }
    assert 0.5 < time.monotonic() - begun < 2


def test_one_that_is_not_connected_holds_nobody_up_once_there_are_enough() -> None:
    begun = time.monotonic()
    found = transport({"a": echo, "b": echo}, quorum=1, connected={"a"}).exchange(1, {"a": b"1", "b": b"2"}, 30)
    assert found == {"a": b"1!", "b": Failure("silent", "not connected")}
    assert time.monotonic() - begun < 5


def test_without_a_quorum_an_absent_one_is_waited_for_and_asked_when_it_comes() -> None:
    begun = time.monotonic()
    fake = FakeGrid({1: echo, 2: echo})

    def connected() -> dict[str, int]:
        return {"a": 1, "b": 2} if time.monotonic() - begun > 0.5 else {"a": 1}

    found = GridTransport(fake, connected, 2).exchange(1, {"a": b"1", "b": b"2"}, 30)  # type: ignore[arg-type]
    assert found == {"a": b"1!", "b": b"2!"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (to_error(RelayError.UNAVAILABLE), "unavailable"),
        (to_error(RelayError.BUSY), "busy"),
        (Error(APP_REFUSED, "x"), "app"),
        (Error(2, "<class 'RuntimeError'>: private text"), "error"),
        (Error(700, "private text"), "error"),
    ],
)
def test_an_error_becomes_one_word_and_its_text_goes_nowhere(error: Error, code: str) -> None:
    found = transport({"a": failing(error)}).exchange(1, {"a": b"1"}, 5)["a"]
    assert isinstance(found, Failure)
    assert found.code == code
    assert "private" not in found.message


def test_an_error_is_attributed_by_the_message_it_answers_not_by_its_sender() -> None:
    def refused(question: Message) -> Message:
        reply = Message(Error(APP_REFUSED, ""), reply_to=question)
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    found = transport({"a": echo, "b": refused}).exchange(1, {"a": b"1", "b": b"2"}, 5)
    assert found["a"] == b"1!"
    assert isinstance(found["b"], Failure)


def test_an_expired_question_is_not_an_answer() -> None:
    found = transport({"a": failing(Error(min(EXPIRED), ""))}).exchange(1, {"a": b"1"}, 0.3)["a"]
    assert isinstance(found, Failure)
    assert found.code == "late"


def test_an_answer_of_another_app_is_an_error() -> None:
    def other(question: Message) -> Message:
        return Message(RecordDict(), reply_to=question)

    found = transport({"a": other}).exchange(1, {"a": b"1"}, 5)["a"]
    assert isinstance(found, Failure)
    assert found.code == "error"


def test_a_question_that_was_lost_on_the_way_is_asked_again_with_the_same_bytes() -> None:
    node = Node(loses=2)
    given = transport({"a": node}, call_after_s=0.1)
    begun = time.monotonic()
    assert given.exchange(1, {"a": b"1"}, 30) == {"a": b"1!"}
    assert 0.3 <= time.monotonic() - begun < 5
    assert node.answered == [b"1"]
    kinds = [message.metadata.message_type for message in given._grid.asked.values()]  # type: ignore[attr-defined]
    assert kinds == ["train", "query", "train", "query", "train"]
    # None lives longer than the round.
    assert max(given._grid.ttls) <= 30  # type: ignore[attr-defined]


def test_one_that_is_at_work_is_called_and_not_asked_again() -> None:
    node = Node(seconds=1.0)
    given = transport({"a": node}, call_after_s=0.1)
    assert given.exchange(1, {"a": b"1"}, 30) == {"a": b"1!"}
    kinds = [message.metadata.message_type for message in given._grid.asked.values()]  # type: ignore[attr-defined]
    assert kinds.count("train") == 1
    assert 2 <= kinds.count("query") <= 4
    assert node.answered == [b"1"]


def test_nobody_is_called_where_that_is_not_agreed() -> None:
    given = transport({"a": Node(loses=1)})
    found = given.exchange(1, {"a": b"1"}, 0.5)["a"]
    assert isinstance(found, Failure)
    assert found.code == "late"
    assert len(given._grid.asked) == 1  # type: ignore[attr-defined]


def test_a_call_that_comes_back_as_an_error_says_nothing() -> None:
    def only_errors(message: Message) -> Message | None:
        if message.metadata.message_type == "train":
            return None
        return Message(Error(min(EXPIRED), ""), reply_to=message)

    given = transport({"a": only_errors}, call_after_s=0.05)
    assert given.exchange(1, {"a": b"1"}, 0.5)["a"] == Failure("late", "no answer by the deadline")
    kinds = [message.metadata.message_type for message in given._grid.asked.values()]  # type: ignore[attr-defined]
    assert kinds.count("train") == 1


@pytest.mark.parametrize("returns", [True, False])
def test_one_whose_node_is_lost_is_asked_when_it_is_there_again_and_silent_otherwise(returns: bool) -> None:
    begun = time.monotonic()

    def connected() -> dict[str, int]:
        gone_for = time.monotonic() - begun
        return {"a": 1} if gone_for < 0.1 or (returns and gone_for > 0.4) else {}

    def node(question: Message) -> Message | None:
        if time.monotonic() - begun > 0.4:
            return echo(question)
        return Message(Error(NODE_LOST, ""), reply_to=question) if time.monotonic() - begun > 0.1 else None

    found = GridTransport(FakeGrid({1: node}), connected, 1).exchange(1, {"a": b"1"}, 1.5)  # type: ignore[arg-type]
    assert found == {"a": b"1!" if returns else Failure("silent", "not connected")}

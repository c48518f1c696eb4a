"""The agent of an institution whose signing key is in a token: it answers, and says so if the token is pulled out."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from client.institution.paths import Slot
from common.identity import keyring
from common.identity.pin import read_pin_from
from common.protocol.envelope import open_sealed, peek
from common.protocol.messages import Contribution
from tests.client.agent.test_server import STEPS, Agent, config, in_background
from tests.client.enrolled import enrol
from tests.soft_tokens import PIN, SoftToken, needs_softhsm
from tests.tiny_models import save_tiny_model

pytestmark = needs_softhsm


@pytest.fixture
def agent(soft_token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """The process, which got the PIN through a pipe."""
    monkeypatch.setattr(keyring, "_held", {})
    read_pin_from(soft_token.pin_file)
    base = str(save_tiny_model(tmp_path / "model", layers=2))
    enrolled = enrol(tmp_path, base, "max_epsilon = 200\ndelta = 1e-4\n", token=soft_token.settings())
    agent = Agent(enrolled, base, given=keyring.hand_over(enrolled.home.lock_path, [Slot.KEYS], signs=True))
    yield agent
    agent.process.kill()
    agent.process.wait()


def answer_of(agent: Agent, answer: bytes) -> Contribution:
    context = peek(answer)
    assert context.kind == "contribution"
    return Contribution.from_bytes(open_sealed(answer, agent.enrolled.hub, agent.home.public_keys(), context))


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_rounds_are_signed_by_the_token_and_without_it_nothing_is_charged_or_written(
    agent: Agent, soft_token: SoftToken
) -> None:
    assert isinstance(agent.ask(agent.assignment(1)), Contribution)
    second = agent.sealed(agent.assignment(2))
    ledger = agent.home.ledger_path
    files = (ledger, ledger.with_name("ledger.jsonl.head"))
    before = [path.read_bytes() for path in files]

    soft_token.pull_out()
    with pytest.raises(grpc.RpcError) as error:
        agent.call(second)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert [path.read_bytes() for path in files] == before
    log = agent.log.read_text()
    assert "round 2: not answered: token bank: it " in log
    soft_token.put_back()
    answer_of(agent, agent.call(second))
    assert [charge.steps_done for charge in agent.charges()] == [STEPS, STEPS]
    assert "Traceback" not in agent.log.read_text()
    assert PIN not in agent.log.read_text()


def test_a_token_that_is_pulled_out_during_a_training_costs_this_training_and_no_more(
    agent: Agent, soft_token: SoftToken
) -> None:
    sealed = agent.sealed(agent.assignment(1, config(agent.base, 300)))
    call = in_background(agent.home, sealed)
    wait_for(lambda: agent.progress().get("step", 0) > 0)
    soft_token.pull_out()
    assert call.exception().code() is grpc.StatusCode.INTERNAL
    assert "round 1: not answered: token bank: it " in agent.log.read_text()
    (lost,) = agent.charges()
    soft_token.put_back()
    answer_of(agent, agent.call(sealed))
    assert [charge.event for charge in agent.charges()] == [lost.event] * 2

"""A session of secure aggregation goes on in whichever worker of Flower's engine the next message reaches."""

from pathlib import Path

from flwr.app import RecordDict

from client.dp.pause import to_end
from simulation.carried import carried
from tests.client.agent.test_secure import request, sessions


def test_another_worker_answers_from_the_session_that_began_in_the_first(tmp_path: Path) -> None:
    state, question = RecordDict(), request(tmp_path)
    first, second = sessions(), sessions()
    with carried(first, state):
        begun = to_end(first.answering("run", question)).to_bytes()
    with carried(second, state):
        again = to_end(second.answering("run", question)).to_bytes()
    assert again == begun
    # A worker without it draws secrets of its own.
    assert to_end(sessions().answering("run", question)).to_bytes() != begun


def test_an_institution_without_a_session_leaves_nothing(tmp_path: Path) -> None:
    state = RecordDict()
    with carried(sessions(), state):
        pass
    assert not state

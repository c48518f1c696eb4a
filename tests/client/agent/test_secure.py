"""An institution begins a session under its own run's terms alone, and answers no question without one."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from client.agent.secure import QUESTIONS, SecureSessions
from common.errors import AssignmentRefused
from common.identity.keys import PublicKeys
from common.secure_aggregation.messages import Announcement, AnnouncementRequest, ConfirmationRequest
from common.secure_aggregation.terms import Terms
from common.source import code_digest
from simulation.config import load_simulation
from tests.common.secure_aggregation.federation import keys_of, terms_of
from tests.simulation.helpers import write_simulation

NAMES = ("bank00", "bank01", "bank02")
SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"


def sessions(peers: dict[str, PublicKeys] | None = None) -> SecureSessions:
    known = {name: keys_of(name).public for name in NAMES} if peers is None else peers

    def train(*_: object) -> None:
        raise AssertionError("nothing is trained")

    return SecureSessions(keys_of("bank00"), MappingProxyType(known), None, train, lambda *_: None)


def request(directory: Path, **changes: object) -> AnnouncementRequest:
    config = load_simulation(write_simulation(directory, local_steps=1, extra=SECURE)).run
    terms = replace(terms_of(NAMES, 2, 2), config_digest=config.digest())
    terms = replace(terms, **{key: value for key, value in changes.items() if key in Terms.__dataclass_fields__})
    digest = str(changes.get("code_digest", code_digest()))
    return AnnouncementRequest(terms.digest, terms.first_round, terms.to_json(), config.to_json(), digest)


def test_the_terms_of_the_run_begin_a_session(tmp_path: Path) -> None:
    question = request(tmp_path)
    answer = sessions().answer("run", question)
    assert isinstance(answer, Announcement)
    assert answer.terms == question.terms


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"threshold": 3}, "not those of the run"),
        ({"honest": 3, "threshold": 3}, "not those of the run"),
        ({"run_id": "another"}, "not those of the run"),
        ({"config_digest": "0" * 64}, "not those of the run"),
        ({"code_digest": "0" * 64}, "other code"),
    ],
)
def test_other_terms_begin_none(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(AssignmentRefused, match=why) as error:
        sessions().answer("run", request(tmp_path, **changes))
    assert error.value.code == "config"


def test_without_an_approved_roster_nobody_takes_part(tmp_path: Path) -> None:
    with pytest.raises(AssignmentRefused, match="the officer has approved no institution yet"):
        sessions({}).answer("run", request(tmp_path))
    few = {name: keys_of(name).public for name in NAMES[:2]}
    with pytest.raises(AssignmentRefused, match="bank02, with these keys, is not among the institutions"):
        sessions(few).answer("run", request(tmp_path))


def test_no_question_is_answered_without_a_session(tmp_path: Path) -> None:
    assert len(QUESTIONS) == 6
    held = sessions()
    with pytest.raises(AssignmentRefused, match="no session of these terms has begun here"):
        held.answer("run", ConfirmationRequest("d" * 64, 1, NAMES))
    held.answer("run", request(tmp_path))
    with pytest.raises(AssignmentRefused, match="not the one that was masked last") as error:
        held.answer("run", ConfirmationRequest(request(tmp_path).terms, 1, NAMES))
    assert error.value.code == "replay"

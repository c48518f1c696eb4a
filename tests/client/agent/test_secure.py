"""An institution begins a session under its own run's terms alone, and answers no question without one."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from client.agent.secure import QUESTIONS, SecureSessions
from common.errors import AssignmentRefused
from common.identity.keys import PublicKeys
from common.protocol.messages import Assignment, PrivacyStatement, RefusalCode
from common.secure_aggregation.messages import (
    Announcement,
    AnnouncementRequest,
    ConfirmationRequest,
    MaskedSum,
    MaskedSumRequest,
    PadsRequest,
    SharesRequest,
    UnmaskingRequest,
)
from common.secure_aggregation.participant import Participant
from common.secure_aggregation.session import confirmed_value, session_digest
from common.secure_aggregation.terms import Terms, sign
from common.source import code_digest
from simulation.config import load_simulation
from tests.common.secure_aggregation.federation import RANGE, keys_of, terms_of
from tests.simulation.helpers import write_simulation

NAMES = ("bank00", "bank01", "bank02")
STATEMENT = PrivacyStatement(
    noise_multiplier=1.0, clipping_norm=1.0, steps=1, delta=1e-4, epsilon=1.0, sampling_probability=0.5
)
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


def test_the_assignment_that_is_noted_is_that_of_the_masked_round(tmp_path: Path) -> None:
    """A later assignment that was refused must not take the place of the one that was answered."""
    noted: list[bytes] = []

    def train(assignment: Assignment, party: Participant, members: tuple[str, ...]) -> MaskedSum:
        if assignment.round > 1:
            raise AssignmentRefused(RefusalCode.CONFIG, "refused")
        values = party.mask(assignment.round, members, np.zeros(4, np.int64), RANGE)
        return MaskedSum(party.terms.digest, 1, values, "s", "c", None, STATEMENT, 2.0)

    peers = {name: keys_of(name).public for name in NAMES}
    held = SecureSessions(keys_of("bank00"), peers, 64, train, lambda _run, _round, body: noted.append(body))
    question = request(tmp_path)
    terms = Terms.from_json(question.terms_json)
    others = {name: Participant(keys_of(name), terms, peers, 64) for name in NAMES[1:]}
    place = (terms.digest, 1)
    announced = {name: party.announce().to_bytes() for name, party in others.items()}
    announced["bank00"] = held.answer("run", question).to_bytes()
    held.answer("run", SharesRequest(*place, 32, announced))
    packets = {name: party.deal(32, announced).packets["bank00"] for name, party in others.items()}
    held.answer("run", PadsRequest(*place, packets))

    def assignment(round_: int) -> bytes:
        return Assignment("run", round_, question.config_json, "{}", b"adapter", question.code_digest).to_bytes()

    held.answer("run", MaskedSumRequest(*place, assignment(1), NAMES))
    with pytest.raises(AssignmentRefused, match="refused"):
        held.answer("run", MaskedSumRequest(terms.digest, 2, assignment(2), NAMES))
    held.answer("run", ConfirmationRequest(*place, NAMES))
    session = session_digest(announced)
    signatures = {
        name: sign(keys_of(name), terms, "survivors", 1, NAMES, confirmed_value(session, NAMES)) for name in NAMES
    }
    held.answer("run", UnmaskingRequest(*place, signatures))
    assert noted == [assignment(1)]

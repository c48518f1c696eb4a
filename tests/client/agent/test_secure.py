"""An institution begins a session under its own run's terms alone, and answers no question without one."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from client.agent.secure import QUESTIONS, SecureSessions
from client.dp.pause import Pausing, to_end
from common.errors import AssignmentRefused, EnvelopeError
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

    def train(*_: object) -> NoReturn:
        raise AssertionError("nothing is trained")

    return SecureSessions(keys_of("bank00"), lambda: known, None, train, lambda *_: None)


def request(directory: Path, **changes: Any) -> AnnouncementRequest:
    config = load_simulation(write_simulation(directory, local_steps=1, extra=SECURE)).run
    terms = replace(terms_of(NAMES, 2, 2), config_digest=config.digest())
    terms = replace(terms, **{key: value for key, value in changes.items() if key in Terms.__dataclass_fields__})
    digest = str(changes.get("code_digest", code_digest()))
    return AnnouncementRequest(terms.digest, terms.first_round, terms.to_json(), config.to_json(), digest)


def test_the_terms_of_the_run_begin_a_session(tmp_path: Path) -> None:
    question = request(tmp_path)
    answer = to_end(sessions().answering("run", question))
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
        to_end(sessions().answering("run", request(tmp_path, **changes)))
    assert error.value.code == "config"


def test_without_an_approved_roster_nobody_takes_part(tmp_path: Path) -> None:
    with pytest.raises(AssignmentRefused, match="the officer has approved no institution yet"):
        to_end(sessions({}).answering("run", request(tmp_path)))
    few = {name: keys_of(name).public for name in NAMES[:2]}
    with pytest.raises(AssignmentRefused, match="bank02, with these keys, is not among the institutions"):
        to_end(sessions(few).answering("run", request(tmp_path)))


def test_a_roster_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def damaged() -> dict[str, PublicKeys]:
        raise EnvelopeError("keys", "peers/west.json: not a public.json of this version")

    def train(*_: object) -> NoReturn:
        raise AssertionError("nothing is trained")

    held = SecureSessions(keys_of("bank00"), damaged, None, train, lambda *_: None)
    with pytest.raises(AssignmentRefused, match=r"the approved institutions cannot be read: peers/west.json") as error:
        to_end(held.answering("run", request(tmp_path)))
    assert error.value.code == "config"


def test_no_question_is_answered_without_a_session(tmp_path: Path) -> None:
    assert len(QUESTIONS) == 6
    held = sessions()
    with pytest.raises(AssignmentRefused, match="no session of these terms has begun here"):
        to_end(held.answering("run", ConfirmationRequest("d" * 64, 1, NAMES)))
    to_end(held.answering("run", request(tmp_path)))
    with pytest.raises(AssignmentRefused, match="not the one that was masked last") as error:
        to_end(held.answering("run", ConfirmationRequest(request(tmp_path).terms, 1, NAMES)))
    assert error.value.code == "replay"


def test_the_assignment_that_is_noted_is_that_of_the_masked_round(tmp_path: Path) -> None:
    """A later assignment that was refused must not take the place of the one that was answered."""
    noted: list[bytes] = []

    def train(assignment: Assignment, party: Participant, members: tuple[str, ...]) -> Pausing[MaskedSum]:
        if assignment.round > 1:
            raise AssignmentRefused(RefusalCode.CONFIG, "refused")
        values = party.mask(assignment.round, members, np.zeros(4, np.int64), RANGE)
        return MaskedSum(party.terms.digest, 1, values, "s", "c", None, STATEMENT, 2.0)
        yield

    peers = {name: keys_of(name).public for name in NAMES}
    held = SecureSessions(keys_of("bank00"), lambda: peers, 64, train, lambda _run, _round, body: noted.append(body))
    question = request(tmp_path)
    terms = Terms.from_json(question.terms_json)
    others = {name: Participant(keys_of(name), terms, peers, 64) for name in NAMES[1:]}
    place = (terms.digest, 1)
    announced = {name: party.announce().to_bytes() for name, party in others.items()}
    announced["bank00"] = to_end(held.answering("run", question)).to_bytes()
    to_end(held.answering("run", SharesRequest(*place, 32, announced)))
    packets = {name: party.deal(32, announced).packets["bank00"] for name, party in others.items()}
    to_end(held.answering("run", PadsRequest(*place, packets)))

    def assignment(round_: int) -> bytes:
        return Assignment("run", round_, question.config_json, "{}", b"adapter", question.code_digest).to_bytes()

    asked = MaskedSumRequest(*place, assignment(1), NAMES)
    masked = to_end(held.answering("run", asked))
    assert to_end(held.answering("run", asked)) is masked, "a question that comes again is not masked again"
    with pytest.raises(AssignmentRefused, match="refused"):
        to_end(held.answering("run", MaskedSumRequest(terms.digest, 2, assignment(2), NAMES)))
    to_end(held.answering("run", ConfirmationRequest(*place, NAMES)))
    session = session_digest(announced)
    signatures = {
        name: sign(keys_of(name), terms, "survivors", 1, NAMES, confirmed_value(session, NAMES)) for name in NAMES
    }
    to_end(held.answering("run", UnmaskingRequest(*place, signatures)))
    assert noted == [assignment(1)]


def test_the_keys_of_a_session_are_announced_once_and_another_session_has_new_ones(tmp_path: Path) -> None:
    """The same question again is a repetition, until shares were dealt: then it begins a session of new secrets."""
    held, question = sessions(), request(tmp_path)
    first = to_end(held.answering("run", question))
    assert to_end(held.answering("run", question)) == first
    assert isinstance(first, Announcement)
    terms = Terms.from_json(question.terms_json)
    others = {name: Participant(keys_of(name), terms, terms.keys, 64) for name in NAMES[1:]}
    announced = {name: party.announce().to_bytes() for name, party in others.items()} | {"bank00": first.to_bytes()}
    shares = SharesRequest(terms.digest, 1, 32, announced)
    dealt = to_end(held.answering("run", shares))
    assert to_end(held.answering("run", shares)) == dealt
    with pytest.raises(AssignmentRefused, match="were dealt already"):
        to_end(held.answering("run", SharesRequest(terms.digest, 1, 64, announced)))
    second = to_end(held.answering("run", question))
    assert isinstance(second, Announcement)
    assert second.sealing != first.sealing


def test_a_killed_agent_holds_nothing_of_its_sessions(tmp_path: Path) -> None:
    """What is asked after a restart is refused until the next session begins, so no round is masked twice."""
    question = request(tmp_path)
    to_end(sessions().answering("run", question))
    restarted = sessions()
    for asked in (
        SharesRequest(question.terms, 1, 32, {}),
        PadsRequest(question.terms, 1, {}),
        MaskedSumRequest(question.terms, 1, b"", NAMES),
        ConfirmationRequest(question.terms, 1, NAMES),
        UnmaskingRequest(question.terms, 1, {}),
    ):
        with pytest.raises(AssignmentRefused, match="no session of these terms has begun here"):
            to_end(restarted.answering("run", asked))


def test_few_sessions_are_held_at_once(tmp_path: Path) -> None:
    held = sessions()
    for number in range(6):
        to_end(held.answering(f"run{number}", request(tmp_path, run_id=f"run{number}")))
    with pytest.raises(AssignmentRefused, match="no session of these terms"):
        to_end(held.answering("run0", ConfirmationRequest(request(tmp_path, run_id="run0").terms, 1, NAMES)))
    with pytest.raises(AssignmentRefused, match="not the one that was masked last"):
        to_end(held.answering("run5", ConfirmationRequest(request(tmp_path, run_id="run5").terms, 1, NAMES)))

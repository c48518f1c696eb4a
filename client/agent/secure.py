"""The institution's sessions of secure aggregation: one at a time for each run, in memory alone.

Everything that a session rests on is drawn when it begins. After a restart the hub begins another one, and a round that
is done again is a new training with new noise, which is charged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.config.run import RunConfig
from common.errors import AssignmentRefused, EnvelopeError, SecureAggregationRefused
from common.identity.keys import PrivateKeys, PublicKeys
from common.protocol.messages import Assignment, RefusalCode
from common.secure_aggregation.messages import (
    AnnouncementRequest,
    ConfirmationRequest,
    MaskedSum,
    MaskedSumRequest,
    PadsRequest,
    SecureMessage,
    SharesRequest,
    UnmaskingRequest,
)
from common.secure_aggregation.participant import Participant
from common.secure_aggregation.terms import Terms
from common.source import code_digest

__all__ = ["QUESTIONS", "SecureSessions"]

QUESTIONS: Mapping[str, type[SecureMessage]] = {
    kind.kind(): kind
    for kind in (
        AnnouncementRequest,
        SharesRequest,
        PadsRequest,
        MaskedSumRequest,
        ConfirmationRequest,
        UnmaskingRequest,
    )
}
"""The hub's questions by kind of their envelope."""

Train = Callable[[Assignment, Participant, tuple[str, ...]], MaskedSum]


@dataclass
class _Session:
    participant: Participant
    assignment: bytes = b""


class SecureSessions:
    """Answers the hub's questions about secure aggregation.

    Args:
        keys: The institution's keys.
        peers: Public keys of the institutions that the officer approved, by name.
        declared_units: The size that the officer declares, or None.
        train: Trains a round and masks its sum. It charges the ledger first.
        finish: Called with round and assignment before the own mask of a round is released.
    """

    def __init__(
        self,
        keys: PrivateKeys,
        peers: Mapping[str, PublicKeys],
        declared_units: int | None,
        train: Train,
        finish: Callable[[str, int, bytes], None],
    ) -> None:
        self._keys, self._peers, self._declared_units = keys, peers, declared_units
        self._train, self._finish = train, finish
        self._sessions: dict[str, _Session] = {}

    def answer(self, run_id: str, question: SecureMessage) -> SecureMessage:
        """Return the answer to one question of run `run_id`.

        Raises:
            AssignmentRefused: The institution does not answer, and the code says why.
        """
        try:
            return self._answer(run_id, question)
        except SecureAggregationRefused as refused:
            code = RefusalCode.REPLAY if refused.code == "replay" else RefusalCode.CONFIG
            raise AssignmentRefused(code, str(refused)) from refused
        except EnvelopeError as error:
            raise AssignmentRefused(RefusalCode.CONFIG, f"a packet of another institution: {error}") from error

    def _answer(self, run_id: str, question: SecureMessage) -> SecureMessage:
        if isinstance(question, AnnouncementRequest):
            return self._begin(run_id, question)
        session = self._sessions.get(run_id)
        if session is None or session.participant.terms.digest != question.terms:
            raise SecureAggregationRefused("config", "secure aggregation: no session of these terms has begun here")
        party = session.participant
        if isinstance(question, SharesRequest):
            return party.deal(question.bits, question.announcements)
        if isinstance(question, PadsRequest):
            return party.receive(question.packets)
        if isinstance(question, MaskedSumRequest):
            assignment = Assignment.from_bytes(question.assignment)
            if (assignment.run_id, assignment.round) != (run_id, question.round):
                raise SecureAggregationRefused("config", "secure aggregation: the assignment is for another round")
            # Before the ledger is charged.
            party.check_round(question.round, question.members)
            answered = self._train(assignment, party, question.members)
            session.assignment = question.assignment
            return answered
        if isinstance(question, ConfirmationRequest):
            return party.confirm(question.round, question.survivors)
        if isinstance(question, UnmaskingRequest):
            answer = party.unmask(question.round, question.signatures)
            self._finish(run_id, question.round, session.assignment)
            return answer
        raise SecureAggregationRefused("config", "secure aggregation: an unknown question")

    def _begin(self, run_id: str, question: AnnouncementRequest) -> SecureMessage:
        terms, config = Terms.from_json(question.terms_json), RunConfig.from_json(question.config_json)
        if question.code_digest != code_digest():
            raise SecureAggregationRefused("config", "the hub runs other code than this institution reviewed")
        decided = config.aggregation
        stated = (terms.run_id, terms.config_digest, terms.threshold, terms.honest, terms.digest)
        if stated != (run_id, config.digest(), decided.threshold, decided.honest, question.terms):
            raise SecureAggregationRefused("config", "secure aggregation: its terms are not those of the run")
        if not self._peers:
            raise SecureAggregationRefused("config", "secure aggregation: the officer has approved no institution yet")
        participant = Participant(self._keys, terms, self._peers, self._declared_units)
        self._sessions[run_id] = _Session(participant)
        return participant.announce()

"""The institution's sessions of secure aggregation: one at a time for each run, in memory alone.

Everything that a session rests on is drawn when it begins, and nothing of it is ever written. So a process that was
killed, or a directory that was restored from a backup, holds no secret with which a round could be masked twice. The
institution is absent for the rest of that session, and takes part in the next one. A round that is done again is a new
training with new noise, which is charged.

A question that comes again, because its answer was lost on the way, gets the same bytes again.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from client.dp.pause import Pausing
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

__all__ = ["QUESTIONS", "Peers", "SecureSessions"]

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

_MOST_SESSIONS = 4
"""Runs whose sessions are held at once. The oldest gives way."""
Train = Callable[[Assignment, Participant, tuple[str, ...]], Pausing[MaskedSum]]
Peers = Callable[[], Mapping[str, PublicKeys]]
"""Returns the public keys of the institutions that the officer approved, by name. Read when a session begins."""


@dataclass
class _Session:
    """One session, the assignment that was answered last, and the last question with its answer."""

    participant: Participant
    assignment: bytes = b""
    question: bytes = b""
    answer: SecureMessage | None = None


class SecureSessions:
    """Answers the hub's questions about secure aggregation.

    Args:
        keys: The institution's keys.
        peers: Returns the institutions that the officer approved.
        declared_units: The size that the officer declares, or None.
        train: Trains a round and masks its sum. It charges the ledger first.
        finish: Called with round and assignment before the own mask of a round is released.

    Attributes:
        held: The sessions by run, the oldest first.
    """

    def __init__(
        self,
        keys: PrivateKeys,
        peers: Peers,
        declared_units: int | None,
        train: Train,
        finish: Callable[[str, int, bytes], None],
    ) -> None:
        self._keys, self._peers, self._declared_units = keys, peers, declared_units
        self._train, self._finish = train, finish
        self.held: dict[str, _Session] = {}

    def answering(self, run_id: str, question: SecureMessage) -> Pausing[SecureMessage]:
        """Answer one question of run `run_id`. A training pauses: see `client.dp.pause`.

        Raises:
            AssignmentRefused: The institution does not answer, and the code says why.
        """
        try:
            return (yield from self._answer(run_id, question))
        except SecureAggregationRefused as refused:
            code = RefusalCode.REPLAY if refused.code == "replay" else RefusalCode.CONFIG
            raise AssignmentRefused(code, str(refused)) from refused
        except EnvelopeError as error:
            raise AssignmentRefused(RefusalCode.CONFIG, f"a packet of another institution: {error}") from error

    def _answer(self, run_id: str, question: SecureMessage) -> Pausing[SecureMessage]:
        session, digest = self.held.get(run_id), hashlib.sha256(question.to_bytes()).digest()
        if session is not None and session.answer is not None and session.question == digest:
            return session.answer
        if isinstance(question, AnnouncementRequest):
            session = _Session(self._begin(run_id, question))
            answer: SecureMessage = session.participant.announce()
            self.held.pop(run_id, None)
            self.held[run_id] = session
            for oldest in list(self.held)[:-_MOST_SESSIONS]:
                del self.held[oldest]
        elif session is None or session.participant.terms.digest != question.terms:
            raise SecureAggregationRefused("config", "secure aggregation: no session of these terms has begun here")
        else:
            answer = yield from self._answer_in(session, run_id, question)
        session.question, session.answer = digest, answer
        return answer

    def _answer_in(self, session: _Session, run_id: str, question: SecureMessage) -> Pausing[SecureMessage]:
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
            answered = yield from self._train(assignment, party, question.members)
            session.assignment = question.assignment
            return answered
        if isinstance(question, ConfirmationRequest):
            return party.confirm(question.round, question.survivors)
        if isinstance(question, UnmaskingRequest):
            answer = party.unmask(question.round, question.signatures)
            self._finish(run_id, question.round, session.assignment)
            return answer
        raise SecureAggregationRefused("config", "secure aggregation: an unknown question")

    def _begin(self, run_id: str, question: AnnouncementRequest) -> Participant:
        terms, config = Terms.from_json(question.terms_json), RunConfig.from_json(question.config_json)
        if question.code_digest != code_digest():
            raise SecureAggregationRefused("config", "the hub runs other code than this institution reviewed")
        decided = config.aggregation
        stated = (terms.run_id, terms.config_digest, terms.threshold, terms.honest, terms.digest)
        if stated != (run_id, config.digest(), decided.threshold, decided.honest, question.terms):
            raise SecureAggregationRefused("config", "secure aggregation: its terms are not those of the run")
        try:
            peers = self._peers()
        except EnvelopeError as error:
            why = f"the approved institutions cannot be read: {error}"
            raise AssignmentRefused(RefusalCode.CONFIG, why) from error
        if not peers:
            raise SecureAggregationRefused("config", "secure aggregation: the officer has approved no institution yet")
        return Participant(self._keys, terms, peers, self._declared_units)

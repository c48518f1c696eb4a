"""Rounds under secure aggregation: three exchanges to begin a session, three in each of its rounds, and one sum.

The hub learns the sum of the noised integers of at least `threshold` institutions. It takes the step that institutions
otherwise take: the sum divided by the sampling rate times the declared sizes of those that are in it, times the
learning rate. Every institution that fails at an exchange is left out from there on.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from common.errors import AdapterRefused, EnvelopeError, MessageError, SecureAggregationRefused
from common.privacy.accounting import DpSgdEvent, calibrate
from common.privacy.charges import alone
from common.protocol.outcomes import RoundOutcome
from common.report.records import RoundRecord
from common.secure_aggregation.aggregator import Aggregator, RoundSum
from common.secure_aggregation.messages import (
    Announcement,
    AnnouncementRequest,
    Confirmation,
    ConfirmationRequest,
    DealtShares,
    MaskedSum,
    MaskedSumRequest,
    Pads,
    PadsRequest,
    SecureMessage,
    SharesRequest,
    Unmasking,
    UnmaskingRequest,
)
from common.secure_aggregation.sums import SumRange, grid_step
from common.secure_aggregation.terms import MOST_ROUNDS, Terms
from server.rounds.admission import (
    UNDECLARED_UNITS,
    Expected,
    NotAdmitted,
    largest_reply,
    matches_run,
    open_answer,
)
from server.rounds.assignments import FederationContext, assignments, counted_units, seal_to
from server.rounds.checkpoint import RunState
from server.rounds.gathered import Gathered
from server.rounds.summed_step import step_from_sum
from server.rounds.transport import Transport

__all__ = ["SecureRounds"]

log = logging.getLogger("fedfin.run")

A = TypeVar("A", bound=SecureMessage)
_BYTES_BY_PEER = 2**14
"""Bytes of an answer that are allowed for each institution of the roster: packets, shares and digests."""


@dataclass
class _Traffic:
    """Everything that one round has asked and heard."""

    state: RunState
    expected: Expected
    outcomes: dict[str, RoundOutcome] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


class SecureRounds:
    """Gathers the rounds of a run. A session is in memory alone: after a restart the next round begins another."""

    def __init__(self, federation: FederationContext, transport: Transport) -> None:
        self._federation, self._transport = federation, transport
        self._session: Aggregator | None = None
        self._range: SumRange | None = None
        self._left: dict[str, RoundOutcome] = {}

    def gather(self, state: RunState, expected: Expected) -> Gathered:
        """Return the mean of a round, or the reasons why there is none.

        Args:
            state: State of the run.
            expected: The facts that every answer must match.
        """
        traffic = _Traffic(state, expected)
        try:
            session, range_ = self._session_of(traffic)
            masked, total = self._masked_sums(traffic, session, range_)
            self._unmask(traffic, session, total)
            units = {name: self._units(name, answer) for name, answer in masked.items()}
            try:
                batch = (self._federation.config.training.sampling_rate or 1.0) * sum(units.values())
                mean = step_from_sum(state.adapter, total.total(), range_.bits, batch, self._federation)
            except SecureAggregationRefused as error:
                log.warning("run %s, round %d: %s", state.run_id, state.next_round, error)
                why = RoundOutcome.REFUSED_NORM if error.code == "norm" else RoundOutcome.FAILED_UNMASKING
                traffic.outcomes |= dict.fromkeys(masked, why)
                raise
        except SecureAggregationRefused:
            record = self._record(traffic, {})
            self._session, self._left = None, {}
            return Gathered(record, self._threshold, None, {})
        shares = {name: size / sum(units.values()) for name, size in units.items()}
        return Gathered(self._record(traffic, masked), self._threshold, mean, shares)

    @property
    def _threshold(self) -> int:
        return self._federation.config.aggregation.threshold or 0

    def _session_of(self, traffic: _Traffic) -> tuple[Aggregator, SumRange]:
        """Return the session of the round that is due. It begins if there is none."""
        session, range_, due = self._session, self._range, traffic.state.next_round
        if session is None or range_ is None or due >= session.terms.first_round + session.terms.rounds:
            session, range_ = self._begin(traffic)
            self._session, self._range = session, range_
            self._left = {name: why for name, why in traffic.outcomes.items() if name not in session.members}
        return session, range_

    def _begin(self, traffic: _Traffic) -> tuple[Aggregator, SumRange]:
        config, decided = self._federation.config, self._federation.config.aggregation
        terms = Terms(
            run_id=traffic.state.run_id,
            config_digest=config.digest(),
            first_round=traffic.state.next_round,
            rounds=min(MOST_ROUNDS, config.rounds - traffic.state.next_round + 1),
            threshold=self._threshold,
            honest=decided.honest or 0,
            roster=tuple(keys for _, keys in sorted(self._federation.institutions.items())),
        )
        session = Aggregator(terms)
        place = (terms.digest, terms.first_round)
        first = AnnouncementRequest(*place, terms.to_json(), config.to_json(), traffic.expected.code_digest)
        self._ask(traffic, terms, dict.fromkeys(terms.names, first), Announcement, session.announce)
        self._need(traffic, session.announcements)
        range_ = self._range_of(session)
        second = SharesRequest(*place, range_.bits, session.announcements)
        self._ask(traffic, terms, dict.fromkeys(session.announcements, second), DealtShares, session.deal)
        self._need(traffic, session.dealers())
        third = {name: PadsRequest(*place, session.packets_for(name)) for name in session.dealers()}
        self._ask(traffic, terms, third, Pads, session.pads)
        self._need(traffic, session.members)
        return session, range_

    def _range_of(self, session: Aggregator) -> SumRange:
        """Return the range of 32 bits if twice the expected batch of the largest declared size fits it."""
        config, terms = self._federation.config, session.terms
        privacy, rate = config.privacy, config.training.sampling_rate or 1.0
        step, norm = grid_step(privacy.clipping_norm), privacy.clipping_norm
        largest = max(units or UNDECLARED_UNITS for units in session.declared_units.values())
        batch = max(1.0, 2 * largest * rate)
        sigma = privacy.noise_multiplier
        if sigma is None:  # the institutions calibrate it in the same way
            sigma = calibrate(privacy.target_epsilon or 1.0, privacy.delta or 0.0, rate, config.rounds)
        own = alone(DpSgdEvent(sigma, rate, 1), terms.honest).noise_multiplier
        return SumRange.narrowest(len(terms.roster), own * norm / step, batch * norm / step)

    def _masked_sums(
        self, traffic: _Traffic, session: Aggregator, range_: SumRange
    ) -> tuple[dict[str, MaskedSum], RoundSum]:
        state, members = traffic.state, session.members
        total = session.begin(state.next_round, range_, traffic.expected.spec.parameters)
        masked: dict[str, MaskedSum] = {}

        def add(name: str, answer: MaskedSum) -> None:
            for holds, otherwise in (
                (answer.code_digest == traffic.expected.code_digest, RoundOutcome.REFUSED_CODE),
                (answer.spec_digest == traffic.expected.spec.digest(), RoundOutcome.REFUSED_SPEC),
                (matches_run(answer.statement, self._federation.config), RoundOutcome.REFUSED_STATEMENT),
            ):
                if not holds:
                    raise NotAdmitted(otherwise)
            total.add(name, answer.values)
            masked[name] = answer

        written = assignments(state, self._federation, members)
        questions = {
            name: MaskedSumRequest(session.terms.digest, state.next_round, assignment.to_bytes(), members)
            for name, assignment in written.items()
        }
        self._ask(traffic, session.terms, questions, MaskedSum, add)
        self._need(traffic, masked)
        return masked, total

    def _unmask(self, traffic: _Traffic, session: Aggregator, total: RoundSum) -> None:
        """Let the survivors agree on their set, and collect their shares."""
        place = (session.terms.digest, traffic.state.next_round)
        # One that leaves now is in the sum all the same, so its outcome stays.
        outcomes = dict(traffic.outcomes)
        first = ConfirmationRequest(*place, total.survivors)
        self._ask(traffic, session.terms, dict.fromkeys(total.survivors, first), Confirmation, total.confirm)
        second = UnmaskingRequest(*place, total.signatures)
        self._ask(traffic, session.terms, dict.fromkeys(total.signatures, second), Unmasking, total.unmask)
        traffic.outcomes = outcomes

    def _ask(
        self,
        traffic: _Traffic,
        terms: Terms,
        questions: Mapping[str, SecureMessage],
        kind: type[A],
        accept: Callable[[str, A], None],
    ) -> None:
        """Send each institution its question, and pass each right answer to `accept`, in order of name."""
        state, federation = traffic.state, self._federation
        sealed = {
            name: seal_to(question.to_bytes(), question.kind(), state, federation, name)
            for name, question in questions.items()
        }
        replies = self._transport.exchange(state.next_round, sealed, federation.config.aggregation.deadline_s)
        traffic.bytes_down += sum(map(len, sealed.values()))
        traffic.bytes_up += sum(len(reply) for reply in replies.values() if isinstance(reply, bytes))
        numbers = traffic.expected.spec.data_bytes
        max_bytes = largest_reply(traffic.expected.spec) + numbers + _BYTES_BY_PEER * len(terms.roster)
        for name in sorted(questions):
            try:
                if name not in replies:
                    raise NotAdmitted(RoundOutcome.FAILED_SILENT)
                payload = open_answer(name, replies[name], traffic.expected, kind.kind(), max_bytes)
                answer = kind.from_bytes(payload)
                if (answer.terms, answer.round) != (terms.digest, questions[name].round):
                    raise NotAdmitted(RoundOutcome.REFUSED_WRONG_ROUND)
                accept(name, answer)
                traffic.outcomes[name] = RoundOutcome.CONTRIBUTED
            except NotAdmitted as refusal:
                traffic.outcomes[name] = refusal.outcome
            except (EnvelopeError, AdapterRefused) as error:
                traffic.outcomes[name] = RoundOutcome(f"refused:{error.code}")
            except SecureAggregationRefused as error:
                log.warning("%s", error)
                traffic.outcomes[name] = RoundOutcome.REFUSED_MASKS
            except MessageError:
                traffic.outcomes[name] = RoundOutcome.REFUSED_MESSAGE

    def _need(self, traffic: _Traffic, present: Iterable[str]) -> None:
        """Stop the round if fewer institutions than the threshold are left."""
        left = set(present)
        if len(left) < self._threshold:
            lost = dict.fromkeys(left, RoundOutcome.FAILED_UNMASKING)
            traffic.outcomes |= lost
            raise SecureAggregationRefused("error", "secure aggregation: too few institutions are left")

    def _units(self, name: str, answer: MaskedSum) -> int:
        return counted_units(name, answer.declared_units, self._federation) or UNDECLARED_UNITS

    def _record(self, traffic: _Traffic, masked: Mapping[str, MaskedSum]) -> RoundRecord:
        return RoundRecord(
            round=traffic.state.next_round,
            asked=tuple(traffic.expected.asked),
            contributed=tuple(sorted(masked)),
            outcomes=dict(sorted(self._outcomes(traffic).items())),
            epsilon={name: answer.statement.epsilon for name, answer in sorted(masked.items())},
            epsilon_alone={name: answer.epsilon_alone for name, answer in sorted(masked.items())},
            bytes_up=traffic.bytes_up,
            bytes_down=traffic.bytes_down,
            adapter_digest=traffic.state.adapter_digest,
            contributions={name: hashlib.sha256(answer.values).hexdigest() for name, answer in sorted(masked.items())},
        )

    def _outcomes(self, traffic: _Traffic) -> dict[str, RoundOutcome]:
        """Return the outcome of everyone that was asked: of those that are not in the session, that of its start."""
        return dict.fromkeys(traffic.expected.asked, RoundOutcome.FAILED_SILENT) | self._left | traffic.outcomes

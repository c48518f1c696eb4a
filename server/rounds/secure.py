"""Rounds under secure aggregation: three exchanges to begin a session, three in each of its rounds, and one sum.

The hub learns the sum of the noised integers of at least `threshold` institutions. It takes the step that institutions
otherwise take: the sum divided by the sampling rate times the declared sizes of those that are in it, times the
learning rate. Every institution that fails at an exchange is left out from there on. The rest go on down to the
threshold. After a round without all of them another session begins, so that those that are back take part again. If
that did not help, the pause until the next one doubles.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from common.errors import SecureAggregationRefused
from common.privacy.accounting import DpSgdEvent, calibrate
from common.privacy.charges import alone
from common.protocol.messages import PrivacyStatement
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
    SharesRequest,
    Unmasking,
    UnmaskingRequest,
)
from common.secure_aggregation.sums import SumRange, grid_step
from common.secure_aggregation.terms import MOST_ROUNDS, Terms
from server.rounds.admission import UNDECLARED_UNITS, Expected, NotAdmitted, matches_run
from server.rounds.assignments import FederationContext, assignments, counted_units
from server.rounds.checkpoint import RunState
from server.rounds.gathered import Gathered
from server.rounds.secure_exchange import Exchanges, Traffic
from server.rounds.summed_step import step_from_sum
from server.rounds.transport import Transport

__all__ = ["SecureRounds"]

log = logging.getLogger("fedfin.run")


@dataclass(frozen=True)
class _Summand:
    """The facts of a masked sum that has been added. The integers themselves are not kept."""

    digest: str
    declared_units: int | None
    statement: PrivacyStatement
    epsilon_alone: float

    @classmethod
    def of(cls, answer: MaskedSum) -> Self:
        digest = hashlib.sha256(answer.values).hexdigest()
        return cls(digest, answer.declared_units, answer.statement, answer.epsilon_alone)


class SecureRounds:
    """Gathers the rounds of a run. A session is in memory alone: after a restart the next round begins another.

    A round that was cut in the middle is done again in that session, as a new training under new masks.
    """

    def __init__(self, federation: FederationContext, transport: Transport) -> None:
        self._federation, self._exchanges = federation, Exchanges(federation, transport)
        self._session: Aggregator | None = None
        self._range: SumRange | None = None
        self._left: dict[str, RoundOutcome] = {}
        self._pause = 1

    def gather(self, state: RunState, expected: Expected) -> Gathered:
        """Return the mean of a round, or the reasons why there is none.

        Args:
            state: State of the run.
            expected: The facts that every answer must match.
        """
        traffic = Traffic(state, expected)
        try:
            session, range_ = self._session_of(traffic)
            masked, total = self._masked_sums(traffic, session, range_)
            self._unmask(traffic, session, total)
            units = {name: self._units(name, answer.declared_units) for name, answer in masked.items()}
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
        gathered = Gathered(self._record(traffic, masked), self._threshold, mean, shares)
        self._renew(session.terms, state.next_round, is_complete=len(masked) == len(session.terms.roster))
        return gathered

    def _renew(self, terms: Terms, done: int, is_complete: bool) -> None:
        """End the session after round `done` if one was absent, unless earlier ends did not bring it back."""
        if is_complete:
            self._pause = 1
        elif done + 1 >= terms.first_round + self._pause:
            self._session, self._left = None, {}
            self._pause *= 2

    @property
    def _threshold(self) -> int:
        return self._federation.config.aggregation.threshold or 0

    def _session_of(self, traffic: Traffic) -> tuple[Aggregator, SumRange]:
        """Return the session of the round that is due. It begins if there is none."""
        session, range_, due = self._session, self._range, traffic.state.next_round
        if session is None or range_ is None or due >= session.terms.first_round + session.terms.rounds:
            session, range_ = self._begin(traffic)
            self._session, self._range = session, range_
            self._left = {name: why for name, why in traffic.outcomes.items() if name not in session.members}
        return session, range_

    def _begin(self, traffic: Traffic) -> tuple[Aggregator, SumRange]:
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
        whole = config.aggregation.deadline_s
        self._exchanges.ask(traffic, terms, terms.names, lambda _: first, Announcement, session.announce, whole)
        self._need(traffic, session.announcements)
        range_ = self._range_of(session)
        second = SharesRequest(*place, range_.bits, session.announcements)
        self._exchanges.ask(traffic, terms, session.announcements, lambda _: second, DealtShares, session.deal)
        self._need(traffic, session.dealers())

        def third(name: str) -> PadsRequest:
            return PadsRequest(*place, session.packets_for(name))

        self._exchanges.ask(traffic, terms, session.dealers(), third, Pads, session.pads)
        for name, outcome in traffic.outcomes.items():
            if outcome is RoundOutcome.CONTRIBUTED and name not in session.members:
                traffic.outcomes[name] = RoundOutcome.REFUSED_MASKS
        self._need(traffic, session.members)
        return session, range_

    def _range_of(self, session: Aggregator) -> SumRange:
        """Return the range of 32 bits if twice the expected batch of the largest declared size fits it."""
        config, terms = self._federation.config, session.terms
        privacy, rate = config.privacy, config.training.sampling_rate or 1.0
        step, norm = grid_step(privacy.clipping_norm), privacy.clipping_norm
        largest = max(self._units(name, units) for name, units in session.declared_units.items())
        batch = max(1.0, 2 * largest * rate)
        sigma = privacy.noise_multiplier
        if sigma is None:  # the institutions calibrate it in the same way
            sigma = calibrate(privacy.target_epsilon or 1.0, privacy.delta or 0.0, rate, config.rounds)
        own = alone(DpSgdEvent(sigma, rate, 1), terms.honest).noise_multiplier
        return SumRange.narrowest(len(terms.roster), own * norm / step, batch * norm / step)

    def _masked_sums(
        self, traffic: Traffic, session: Aggregator, range_: SumRange
    ) -> tuple[dict[str, _Summand], RoundSum]:
        state, members = traffic.state, session.members
        total = session.begin(state.next_round, range_, traffic.expected.spec.parameters)
        masked: dict[str, _Summand] = {}

        def add(name: str, answer: MaskedSum) -> None:
            for holds, otherwise in (
                (answer.code_digest == traffic.expected.code_digest, RoundOutcome.REFUSED_CODE),
                (answer.spec_digest == traffic.expected.spec.digest(), RoundOutcome.REFUSED_SPEC),
                (matches_run(answer.statement, self._federation.config), RoundOutcome.REFUSED_STATEMENT),
            ):
                if not holds:
                    raise NotAdmitted(otherwise)
            total.add(name, answer.values)
            masked[name] = _Summand.of(answer)

        written = assignments(state, self._federation, members)

        def question(name: str) -> MaskedSumRequest:
            return MaskedSumRequest(session.terms.digest, state.next_round, written[name].to_bytes(), members)

        whole = self._federation.config.aggregation.deadline_s
        self._exchanges.ask(traffic, session.terms, members, question, MaskedSum, add, whole)
        self._need(traffic, masked)
        return masked, total

    def _unmask(self, traffic: Traffic, session: Aggregator, total: RoundSum) -> None:
        """Let the survivors agree on their set, and collect their shares."""
        place = (session.terms.digest, traffic.state.next_round)
        # One that leaves now is in the sum all the same, so its outcome stays.
        outcomes = dict(traffic.outcomes)
        first = ConfirmationRequest(*place, total.survivors)
        self._exchanges.ask(traffic, session.terms, total.survivors, lambda _: first, Confirmation, total.confirm)
        second = UnmaskingRequest(*place, total.signatures)
        self._exchanges.ask(traffic, session.terms, total.signatures, lambda _: second, Unmasking, total.unmask)
        traffic.outcomes = outcomes

    def _need(self, traffic: Traffic, present: Iterable[str]) -> None:
        """Stop the round if fewer institutions than the threshold are left."""
        left = set(present)
        if len(left) < self._threshold:
            lost = dict.fromkeys(left, RoundOutcome.FAILED_UNMASKING)
            traffic.outcomes |= lost
            raise SecureAggregationRefused("error", "secure aggregation: too few institutions are left")

    def _units(self, name: str, declared: int | None) -> int:
        return counted_units(name, declared, self._federation) or UNDECLARED_UNITS

    def _record(self, traffic: Traffic, masked: Mapping[str, _Summand]) -> RoundRecord:
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
            contributions={name: answer.digest for name, answer in sorted(masked.items())},
        )

    def _outcomes(self, traffic: Traffic) -> dict[str, RoundOutcome]:
        """Return the outcome of everyone that was asked: of those that are not in the session, that of its start."""
        return dict.fromkeys(traffic.expected.asked, RoundOutcome.FAILED_SILENT) | self._left | traffic.outcomes

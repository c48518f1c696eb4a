"""One exchange of a round under secure aggregation: a sealed question to each institution, and its sealed answer.

One question and one answer are opened at a time. The others are sealed, in spools, so that the hub's memory does not
grow with the number of institutions.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from common.errors import AdapterRefused, EnvelopeError, MessageError, SecureAggregationRefused
from common.protocol.adapter_codec import Spec
from common.protocol.outcomes import RoundOutcome
from common.secure_aggregation.messages import SecureMessage
from common.secure_aggregation.terms import Terms
from server.rounds.admission import Expected, NotAdmitted, largest_reply, open_answer
from server.rounds.assignments import FederationContext, seal_to
from server.rounds.checkpoint import RunState
from server.rounds.transport import Transport

__all__ = ["Exchanges", "Traffic", "largest_answer"]

log = logging.getLogger("fedfin.run")

A = TypeVar("A", bound=SecureMessage)
_BYTES_BY_PEER = 2**14
"""Bytes of an answer that are allowed for each institution of the roster: packets, shares and digests."""
_ANSWER_WITHIN_S = 120.0
"""Longest wait for an answer, in seconds, if nobody is waited for to connect or to train."""


def largest_answer(spec: Spec, institutions: int) -> int:
    """Return the largest size of an answer under secure aggregation, in bytes.

    Args:
        spec: The tensors that travel.
        institutions: Number of institutions in the roster.
    """
    # Sums have up to eight bytes a number, twice those of the tensors.
    return largest_reply(spec) + spec.data_bytes + _BYTES_BY_PEER * institutions


@dataclass
class Traffic:
    """Everything that one round has asked and heard."""

    state: RunState
    expected: Expected
    outcomes: dict[str, RoundOutcome] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


class Exchanges:
    """Asks institutions over a transport."""

    def __init__(self, federation: FederationContext, transport: Transport) -> None:
        self._federation, self._transport = federation, transport

    def ask(
        self,
        traffic: Traffic,
        terms: Terms,
        names: Iterable[str],
        question: Callable[[str], SecureMessage],
        kind: type[A],
        accept: Callable[[str, A], None],
        deadline_s: float = _ANSWER_WITHIN_S,
    ) -> None:
        """Send each institution its question, and pass each right answer to `accept`, in order of name.

        Args:
            traffic: The round so far, to which outcomes and bytes are added.
            terms: Terms of the session.
            names: The institutions.
            question: Returns the question to one of them.
            kind: Kind of the answers.
            accept: Called with name and answer. A refusal that it raises becomes the outcome of the institution.
            deadline_s: Longest wait, in seconds.
        """
        state, federation = traffic.state, self._federation
        sealed = federation.spool()
        for name in names:
            asked = question(name)
            envelope = seal_to(asked.to_bytes(), asked.kind(), state, federation, name)
            traffic.bytes_down += len(envelope)
            sealed[name] = envelope
        deadline_s = min(deadline_s, federation.config.aggregation.deadline_s)
        replies = self._transport.exchange(state.next_round, sealed, deadline_s)
        max_bytes = largest_answer(traffic.expected.spec, len(terms.roster))
        for name in sorted(sealed):
            try:
                if name not in replies:
                    raise NotAdmitted(RoundOutcome.FAILED_SILENT)
                reply = replies[name]
                traffic.bytes_up += len(reply) if isinstance(reply, bytes) else 0
                answer = kind.from_bytes(open_answer(name, reply, traffic.expected, kind.kind(), max_bytes))
                if (answer.terms, answer.round) != (terms.digest, state.next_round):
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

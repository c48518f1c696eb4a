"""Decide which replies count in a round. No part of a reply is used before the reply has passed every check.

Cheap checks come first. The header, which nothing authenticates, can only lead to a refusal. Signature and decryption
follow, then the claims in the message, then its numbers. A bad reply never changes the verdict on another one.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.canonical import LARGEST_NUMBER, MAX_NOISE_MULTIPLIER
from common.config.aggregation import NumberType
from common.config.run import RunConfig
from common.errors import AdapterRefused, EnvelopeError, MessageError
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors
from common.protocol.envelope import MessageContext, PublicKeys, open_sealed, peek
from common.protocol.messages import Contribution, PrivacyStatement, Receipt, Refusal
from common.protocol.outcomes import RoundOutcome
from common.protocol.updates import decode_update
from server.rounds.aggregation import update_norm

__all__ = [
    "UNDECLARED_UNITS",
    "Admitted",
    "Expected",
    "Failure",
    "NotAdmitted",
    "Verdict",
    "adapter_of",
    "admit",
    "largest_reply",
    "matches_run",
    "open_answer",
    "receipts",
]

_OVERHEAD_BYTES = 2**16
"""Allowance in bytes for the parts of a reply beside its adapter: envelope, statement, digests."""
UNDECLARED_UNITS = 1024
"""Number of units that an institution divides by if it declares none."""
_MARGIN = 1000.0


@dataclass(frozen=True)
class Failure:
    """The transport's report that an institution sent no reply.

    Attributes:
        outcome: One of the "failed:..." outcomes.
        message: A line for the logs of the hub. It is stored nowhere else.
    """

    outcome: RoundOutcome
    message: str


@dataclass(frozen=True)
class Expected:
    """The facts that every reply of one round must match.

    Attributes:
        asked: Public keys of the institutions that this round was sent to, by name.
        enrolled: Names of all enrolled institutions.
        spec: Names and shapes of the tensors that travel.
        code_digest: SHA-256 of the installed code, in hex.
        adapter: The global adapter that was sent.
        seen: SHA-256 digests of all updates that were combined in earlier rounds. None of them counts again.
    """

    run_id: str
    round: int
    hub: PrivateKeys
    asked: Mapping[str, PublicKeys]
    enrolled: frozenset[str]
    config: RunConfig
    spec: Spec
    code_digest: str
    adapter: Tensors
    seen: frozenset[str]


@dataclass(frozen=True)
class Admitted:
    """The facts of a contribution that passed every check. `adapter_of` reads its adapter again.

    `digest` is the SHA-256 of its update as it travelled, in hex.
    """

    digest: str
    declared_units: int | None
    statement: PrivacyStatement | None


@dataclass(frozen=True)
class Verdict:
    """The accepted contributions, and the outcome of every institution that was asked or that replied unasked."""

    accepted: Mapping[str, Admitted]
    outcomes: Mapping[str, RoundOutcome]


class NotAdmitted(Exception):
    """A reply that does not count."""

    def __init__(self, outcome: RoundOutcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def admit(replies: Mapping[str, bytes | Failure], expected: Expected) -> Verdict:
    """Judge every reply by itself, in order of name.

    Args:
        replies: By institution. An institution that was asked and is absent here counts as silent.
        expected: The facts of the round.
    """
    accepted: dict[str, Admitted] = {}
    outcomes: dict[str, RoundOutcome] = {}
    for name in sorted({*expected.asked, *replies}):
        try:
            accepted[name] = _admit_one(name, replies.get(name, Failure(RoundOutcome.FAILED_SILENT, "")), expected)
            outcomes[name] = RoundOutcome.CONTRIBUTED
        except NotAdmitted as refusal:
            outcomes[name] = refusal.outcome
        except (EnvelopeError, AdapterRefused) as error:
            outcomes[name] = RoundOutcome(f"refused:{error.code}")
        except MessageError:
            outcomes[name] = RoundOutcome.REFUSED_MESSAGE
    return Verdict(accepted, outcomes)


def receipts(replies: Mapping[str, bytes | Failure], expected: Expected) -> dict[str, RoundOutcome]:
    """Return the outcome of each institution that was sent the final adapter.

    Args:
        replies: By institution. One that was asked and is absent here counts as silent.
        expected: The facts of the round after the last one.
    """
    outcomes: dict[str, RoundOutcome] = {}
    for name in sorted({*expected.asked, *replies}):
        try:
            _receive_one(name, replies.get(name, Failure(RoundOutcome.FAILED_SILENT, "")), expected)
            outcomes[name] = RoundOutcome.RECEIVED
        except NotAdmitted as refusal:
            outcomes[name] = refusal.outcome
        except EnvelopeError as error:
            outcomes[name] = RoundOutcome(f"refused:{error.code}")
        except MessageError:
            outcomes[name] = RoundOutcome.REFUSED_MESSAGE
    return outcomes


def _receive_one(name: str, reply: bytes | Failure, expected: Expected) -> None:
    _check_place(Receipt.from_bytes(open_answer(name, reply, expected, "receipt")), expected)


def _admit_one(name: str, reply: bytes | Failure, expected: Expected) -> Admitted:
    _require(name in expected.enrolled, RoundOutcome.REFUSED_UNKNOWN_SENDER)
    contribution = Contribution.from_bytes(open_answer(name, reply, expected, "contribution"))
    _check_place(contribution, expected)
    _require(contribution.code_digest == expected.code_digest, RoundOutcome.REFUSED_CODE)
    _require(contribution.spec_digest == expected.spec.digest(), RoundOutcome.REFUSED_SPEC)
    _require(matches_run(contribution.statement, expected.config), RoundOutcome.REFUSED_STATEMENT)
    adapter = _decode(contribution, expected)
    digest = hashlib.sha256(contribution.adapter).hexdigest()
    norm = update_norm(adapter, expected.adapter)
    # An unchanged global adapter is an update of zero, which may well be sent twice.
    _require(digest not in expected.seen or norm == 0, RoundOutcome.REFUSED_REPLAYED)
    _require(norm <= _norm_limit(contribution, expected), RoundOutcome.REFUSED_NORM)
    return Admitted(digest, contribution.declared_units, contribution.statement)


def adapter_of(name: str, reply: bytes | Failure, expected: Expected) -> Tensors:
    """Return the adapter of a reply that was admitted. It is opened again, so that no adapter is held until then.

    Args:
        name: The institution.
        reply: The same reply.
        expected: The facts of the round.
    """
    return _decode(Contribution.from_bytes(open_answer(name, reply, expected, "contribution")), expected)


def _decode(contribution: Contribution, expected: Expected) -> Tensors:
    numbers = expected.config.aggregation.update_dtype
    return decode_update(contribution.adapter, expected.spec, expected.adapter, numbers)


def largest_reply(spec: Spec, numbers: NumberType = "float32") -> int:
    """Return the largest size of a reply that is opened, in bytes.

    Args:
        spec: The tensors that travel.
        numbers: `aggregation.update_dtype` of the run.
    """
    return spec.size(numbers) + _OVERHEAD_BYTES


def open_answer(
    name: str, reply: bytes | Failure, expected: Expected, kind: str, max_bytes: int | None = None
) -> bytes:
    """Return the payload of the message of `kind` that institution `name` sealed to this hub for this round.

    Args:
        name: The institution.
        reply: Its answer.
        expected: The facts of the round.
        kind: Kind of the message.
        max_bytes: Largest size of an answer that is opened. None takes that of a contribution.

    Raises:
        NotAdmitted: There is none, it belongs elsewhere, or the institution declined.
    """
    _require(name in expected.asked, RoundOutcome.REFUSED_NOT_ASKED)
    if isinstance(reply, Failure):
        raise NotAdmitted(reply.outcome)
    if max_bytes is None:
        max_bytes = largest_reply(expected.spec, expected.config.aggregation.update_dtype)
    context = peek(reply, max_bytes)
    _require(context.sender == name, RoundOutcome.REFUSED_WRONG_SENDER)
    _require(context.run_id == expected.run_id, RoundOutcome.REFUSED_WRONG_RUN)
    _require(context.round == expected.round, RoundOutcome.REFUSED_WRONG_ROUND)
    _require(context.recipient == expected.hub.name, RoundOutcome.REFUSED_WRONG_RECIPIENT)
    _require(context.kind in (kind, "refusal"), RoundOutcome.REFUSED_WRONG_KIND)
    # Built from the expected facts, not from the claimed ones.
    place = MessageContext(expected.run_id, expected.round, context.kind, name, expected.hub.name)
    payload = open_sealed(reply, expected.hub, expected.asked[name], place, max_bytes)
    if context.kind == "refusal":
        refusal = Refusal.from_bytes(payload)
        _check_place(refusal, expected)
        raise NotAdmitted(RoundOutcome(f"declined:{refusal.code}"))
    return payload


def _check_place(message: Contribution | Receipt | Refusal, expected: Expected) -> None:
    _require(message.run_id == expected.run_id, RoundOutcome.REFUSED_WRONG_RUN)
    _require(message.round == expected.round, RoundOutcome.REFUSED_WRONG_ROUND)


def matches_run(statement: PrivacyStatement | None, config: RunConfig) -> bool:
    """Return whether a statement agrees with every number that the run fixes. More noise than it asks for is welcome.

    Epsilon follows from the institution's ledger, so the hub can only require a number that its files can hold.
    """
    privacy, training = config.privacy, config.training
    if privacy.mode == "none":
        return True
    return (
        statement is not None
        and statement.delta == privacy.delta
        and statement.clipping_norm == privacy.clipping_norm
        and (privacy.noise_multiplier or 0.0) <= statement.noise_multiplier <= MAX_NOISE_MULTIPLIER
        and statement.sampling_probability == training.sampling_rate
        and training.local_steps in (None, statement.steps)
        and statement.epsilon <= LARGEST_NUMBER
    )


def _norm_limit(contribution: Contribution, expected: Expected) -> float:
    """Return the largest norm of an update: that of the run, else one that no training of the run reaches.

    A step of SGD moves the adapter by at most the learning rate times (signal + noise). The signal has norm C times the
    ratio of true to declared units. The noise has norm sigma C sqrt(d) / (q N). A step of Adam moves each of the d
    numbers by about the learning rate. `_MARGIN` covers large batches, undeclared sizes and Adam's first steps.
    """
    config, statement = expected.config, contribution.statement
    if config.aggregation.max_update_norm is not None:
        return config.aggregation.max_update_norm
    if statement is None or config.privacy.mode == "none":
        return math.inf
    training, root = config.training, math.sqrt(expected.spec.parameters)
    rate = max(training.learning_rate, training.head_learning_rate or 0.0)
    if training.optimizer != "sgd":
        return _MARGIN * statement.steps * rate * root
    units = contribution.declared_units or UNDECLARED_UNITS
    batch = max(1.0, units * (training.sampling_rate or 0.0))
    noise = statement.noise_multiplier * root / batch
    return _MARGIN * statement.steps * rate * statement.clipping_norm * (1.0 + noise)


def _require(holds: bool, otherwise: RoundOutcome) -> None:
    if not holds:
        raise NotAdmitted(otherwise)

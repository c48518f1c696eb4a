"""Which replies count, and why one does not. Nothing of a reply is used before it has passed every check.

The order is from cheap and outside to dear and inside: who and when, by the unauthenticated header (only ever to
refuse); then signature and decryption; then what is claimed; then the numbers. One bad reply never costs another
institution its place.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from common.config.run import RunConfig
from common.errors import AdapterRefused, EnvelopeError, MessageError
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors, decode
from common.protocol.envelope import MessageContext, PublicKeys, open_sealed, peek
from common.protocol.messages import Contribution, PrivacyStatement, Refusal
from server.rounds.aggregation import update_norm

__all__ = ["CONTRIBUTED", "Admitted", "Expected", "Failure", "Verdict", "admit"]

CONTRIBUTED = "contributed"
# What a reply carries beside the adapter's own bytes: envelope, statement, digests.
_OVERHEAD_BYTES = 2**16


@dataclass(frozen=True)
class Failure:
    """A transport's word that no reply came: "silent" by the deadline, or "error". `message` stays in the logs."""

    code: str
    message: str


@dataclass(frozen=True)
class Expected:
    """What every reply of one round must match.

    `asked` holds the keys of whom this round was sent to; `enrolled` everybody's names. `adapter` is the global one
    that was sent. `seen` are digests of adapters that were combined before: one never counts twice.
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
    """A contribution that passed; `digest` is its adapter's."""

    adapter: Tensors
    digest: str
    declared_units: int | None
    statement: PrivacyStatement | None


@dataclass(frozen=True)
class Verdict:
    """`accepted` by institution; `outcomes` for everyone asked, and whoever replied unasked, as in `RoundRecord`."""

    accepted: Mapping[str, Admitted]
    outcomes: Mapping[str, str]


class _NotAdmitted(Exception):
    """This reply does not count."""


def admit(replies: Mapping[str, bytes | Failure], expected: Expected) -> Verdict:
    """Judge every reply on its own, in order of name.

    Codes of "refused:" are `unknown_sender`, `not_asked`, `wrong_sender`, `wrong_run`, `wrong_round`,
    `wrong_recipient`, `wrong_kind`, `message`, `code`, `spec`, `statement`, `replayed`, `norm`, and those of
    `envelope.open_sealed` and `codec.decode`.
    """
    accepted: dict[str, Admitted] = {}
    outcomes: dict[str, str] = {}
    for name in sorted({*expected.asked, *replies}):
        try:
            accepted[name] = _admit_one(name, replies.get(name, Failure("silent", "")), expected)
            outcomes[name] = CONTRIBUTED
        except _NotAdmitted as out:
            outcomes[name] = str(out)
        except (EnvelopeError, AdapterRefused) as error:
            outcomes[name] = f"refused:{error.code}"
        except MessageError:
            outcomes[name] = "refused:message"
    return Verdict(accepted, outcomes)


def _admit_one(name: str, reply: bytes | Failure, expected: Expected) -> Admitted:
    _require(name in expected.enrolled, "unknown_sender")
    _require(name in expected.asked, "not_asked")
    if isinstance(reply, Failure):
        raise _NotAdmitted(f"failed:{reply.code}")
    kind, payload = _open(name, reply, expected)
    if kind == "refusal":
        refusal = Refusal.from_bytes(payload)
        _check_place(refusal, expected)
        raise _NotAdmitted(f"declined:{refusal.code}")
    contribution = Contribution.from_bytes(payload)
    _check_place(contribution, expected)
    _require(contribution.code_digest == expected.code_digest, "code")
    _require(contribution.spec_digest == expected.spec.digest(), "spec")
    _require(_states_what_was_asked(contribution.statement, expected.config), "statement")
    adapter = decode(contribution.adapter, expected.spec)
    digest = hashlib.sha256(contribution.adapter).hexdigest()
    norm = update_norm(adapter, expected.adapter)
    # An unchanged global adapter is an update of zero, which may well come twice.
    _require(digest not in expected.seen or norm == 0, "replayed")
    limit = expected.config.aggregation.max_update_norm
    _require(limit is None or norm <= limit, "norm")
    return Admitted(adapter, digest, contribution.declared_units, contribution.statement)


def _open(name: str, reply: bytes, expected: Expected) -> tuple[str, bytes]:
    """Kind and payload of what `name` itself sealed to this hub for this round."""
    max_bytes = len(expected.spec.header) + expected.spec.data_bytes + _OVERHEAD_BYTES
    context = peek(reply, max_bytes)
    _require(context.sender == name, "wrong_sender")
    _require(context.run_id == expected.run_id, "wrong_run")
    _require(context.round == expected.round, "wrong_round")
    _require(context.recipient == expected.hub.name, "wrong_recipient")
    _require(context.kind in ("contribution", "refusal"), "wrong_kind")
    # Built from what is expected, not from what was claimed.
    place = MessageContext(expected.run_id, expected.round, context.kind, name, expected.hub.name)
    return context.kind, open_sealed(reply, expected.hub, expected.asked[name], place, max_bytes)


def _check_place(message: Contribution | Refusal, expected: Expected) -> None:
    _require(message.run_id == expected.run_id, "wrong_run")
    _require(message.round == expected.round, "wrong_round")


def _states_what_was_asked(statement: PrivacyStatement | None, config: RunConfig) -> bool:
    """Whether the statement is that of the run's own privacy; more noise than asked for is welcome."""
    privacy = config.privacy
    if privacy.mode == "none":
        return True
    return (
        statement is not None
        and statement.delta == privacy.delta
        and statement.clipping_norm == privacy.clipping_norm
        and statement.noise_multiplier >= (privacy.noise_multiplier or 0.0)
    )


def _require(holds: bool, code: str) -> None:
    if not holds:
        raise _NotAdmitted(f"refused:{code}")

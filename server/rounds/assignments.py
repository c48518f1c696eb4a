"""The assignments of a round: which institutions are asked, and the message that each one gets."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from common.config.run import RunConfig
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec
from common.protocol.envelope import MessageContext, PublicKeys, seal
from common.protocol.messages import Assignment
from common.report.by_institution import mean_shares
from common.source import code_digest
from server.rounds.checkpoint import RunState
from server.rounds.spool import Spool

__all__ = ["FederationContext", "assignments", "counted_units", "sample_institutions", "seal_to", "sealed_assignments"]

log = logging.getLogger("fedfin.run")


@dataclass(frozen=True)
class FederationContext:
    """The fixed facts of a federation: the hub's keys, the institutions' keys, the run, and the tensors that travel.

    `approved_units` is the largest size with which an institution counts in weights, whatever it declares. An
    institution that is absent there counts with the size that it declares. `spool` makes the place that holds the
    messages of a round, in memory by default.
    """

    keys: PrivateKeys
    institutions: Mapping[str, PublicKeys]
    config: RunConfig
    spec: Spec
    approved_units: Mapping[str, int] = field(default_factory=dict)
    head_names: frozenset[str] = frozenset()
    spool: Callable[[], Spool[bytes]] = Spool


def sample_institutions(state: RunState, federation: FederationContext) -> tuple[str, ...]:
    """Return the institutions of the next round, sorted: all of them, or a sample.

    The sample consists of the institutions with the smallest SHA-256 of seed, run, round, attempt and name, so anybody
    can recompute it from the public seed. It amplifies no privacy, because the hub knows it. Another attempt at a round
    draws again, so that one absent institution cannot block the run.
    """
    per_round = federation.config.aggregation.institutions_per_round
    if per_round is None:
        return tuple(sorted(federation.institutions))
    attempt = sum(record.round == state.next_round for record in state.missed)
    place = f"fedfin choice 1|{federation.config.seed}|{state.run_id}|{state.next_round}|{attempt}"
    drawn = sorted(federation.institutions, key=lambda name: hashlib.sha256(f"{place}|{name}".encode()).digest())
    return tuple(sorted(drawn[:per_round]))


def sealed_assignments(state: RunState, federation: FederationContext, names: tuple[str, ...]) -> Spool[bytes]:
    """Return the sealed assignment of each institution."""
    sealed = federation.spool()
    for name, assignment in assignments(state, federation, names).items():
        sealed[name] = seal_to(assignment.to_bytes(), "assignment", state, federation, name)
    return sealed


def assignments(state: RunState, federation: FederationContext, names: tuple[str, ...]) -> dict[str, Assignment]:
    """Return the assignment of each institution. It holds the institution's own share in the weights."""
    assignment, shares = _assignment(state, federation), mean_shares(state.history)
    return {name: replace(assignment, share=shares.get(name, 0.0), members=len(shares)) for name in names}


def _assignment(state: RunState, federation: FederationContext) -> Assignment:
    return Assignment(
        run_id=state.run_id,
        round=state.next_round,
        config_json=federation.config.to_json(),
        spec_json=federation.spec.to_json(),
        adapter=state.encoded,
        code_digest=code_digest(),
    )


def seal_to(payload: bytes, kind: str, state: RunState, federation: FederationContext, name: str) -> bytes:
    """Seal a message of the round that is due to one institution.

    Args:
        payload: The message.
        kind: Kind of the message.
        state: State of the run.
        federation: Keys of hub and institutions.
        name: The institution.
    """
    context = MessageContext(state.run_id, state.next_round, kind, federation.keys.name, name)
    return seal(payload, federation.keys, federation.institutions[name], context)


def counted_units(name: str, declared: int | None, federation: FederationContext) -> int | None:
    """Return the size with which an institution counts: the one it declares, up to the one approved at enrolment."""
    approved = federation.approved_units.get(name)
    if declared is None or approved is None or declared <= approved:
        return declared
    log.warning("%s declares %d units and counts with %d, as approved at its enrolment", name, declared, approved)
    return approved

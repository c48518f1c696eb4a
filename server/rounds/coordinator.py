"""The hub's side of a run, told in order. It knows neither Flower nor torch.

A round is a function of the saved state: killed anywhere, it is played again from the last checkpoint with the same
assignment to the same institutions, who answer a question they have answered before with the same bytes.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from common.config.run import RunConfig
from common.errors import CheckpointError, ConfigurationError, QuorumError
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors, digest
from common.protocol.envelope import MessageContext, PublicKeys, seal
from common.protocol.messages import Assignment
from common.source import code_digest
from server.rounds import aggregation
from server.rounds.admission import CONTRIBUTED, Expected, Failure, Verdict, admit
from server.rounds.aggregation import optimizer_of_round
from server.rounds.checkpoint import RoundRecord, RunState

__all__ = ["Evaluation", "Failure", "FederationContext", "Transport", "run", "sample_institutions"]


@dataclass(frozen=True)
class FederationContext:
    """Who coordinates, who is enrolled, what is run and what may travel."""

    keys: PrivateKeys
    institutions: Mapping[str, PublicKeys]
    config: RunConfig
    spec: Spec


@dataclass(frozen=True)
class Evaluation:
    """Figures of one adapter on the hub's test set, whole and by institution."""

    metrics: Mapping[str, float]
    by_institution: Mapping[str, Mapping[str, float]]


class Transport(Protocol):
    """Carries sealed bytes to institutions and back; it can read nothing."""

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        """Each institution's sealed answer, or why there is none. Returns by the deadline; an absent name is silent."""
        ...


Evaluate = Callable[[Tensors], Evaluation | None]
Save = Callable[[RunState], None]
Audit = Callable[[str, dict[str, Any]], object]


def run(
    state: RunState,
    hub: FederationContext,
    transport: Transport,
    evaluate: Evaluate,
    save: Save,
    audit: Audit,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> RunState:
    """Play the rounds that are left and return the final state; `save` has seen every state on the way.

    Raises:
        QuorumError: too few contributions counted. The attempt is saved and the round is still to be played.
        CheckpointError, ConfigurationError: state, configuration and enrolled institutions do not fit together.
        AdapterRefused: the combined adapter leaves the range of float32.
    """
    _check(state, hub)
    audit("run_continued" if state.history or state.missed else "run_started", _standing(state))
    while state.next_round <= hub.config.rounds:
        state = _play_round(state, hub, transport, evaluate, save, audit)
        if on_round is not None:
            on_round(state.history[-1])
    return state


def _play_round(
    state: RunState, hub: FederationContext, transport: Transport, evaluate: Evaluate, save: Save, audit: Audit
) -> RunState:
    started = time.monotonic()

    # 1. Choose whom to ask, and write one assignment for all of them: a pure function of state and hub.
    asked = sample_institutions(state, hub)
    assignment = _assignment(state, hub)

    # 2. Seal it to each, signed.
    sealed = {name: _seal(assignment, state, hub, name) for name in asked}

    # 3. Let the institutions train; they answer sealed, or not at all.
    replies = transport.exchange(state.next_round, sealed, hub.config.aggregation.deadline_s)

    # 4. Admit what may count; what is refused is recorded with its reason.
    verdict = admit(replies, _expected(state, hub, asked))
    record = _record(state, asked, verdict, sealed, replies)

    # 5. Without a quorum nothing changes but the record of the attempt.
    if len(verdict.accepted) < hub.config.aggregation.quorum:
        _miss(state, replace(record, seconds=time.monotonic() - started), hub, save, audit)

    # 6. Combine the rest into the next global adapter.
    adapter, optimizer_state, shares = _combine(state, verdict, hub)

    # 7. Evaluate it on the hub's own test set.
    evaluation = evaluate(adapter) if _is_evaluated(state.next_round, hub.config) else None

    # 8. Save first, then tell: what the audit log calls closed is on disk.
    record = replace(
        record,
        metrics=evaluation.metrics if evaluation else None,
        by_institution=evaluation.by_institution if evaluation else None,
        adapter_digest=digest(adapter),
        weights=shares,
        seconds=time.monotonic() - started,
    )
    after = replace(
        state,
        next_round=state.next_round + 1,
        adapter=adapter,
        optimizer_state=optimizer_state,
        history=(*state.history, record),
    )
    save(after)
    audit("round_closed", {"run_id": state.run_id, "adapter_digest_before": state.adapter_digest, **record.to_json()})
    return after


def sample_institutions(state: RunState, hub: FederationContext) -> tuple[str, ...]:
    """Whom the next round asks, sorted: everybody, or a sample that anyone can recompute from the public seed.

    The sample is the institutions whose SHA-256 of seed, run, round, attempt and name is smallest. It amplifies no
    privacy: the hub knows it. Another attempt at a round draws again, so that one absent institution cannot hold up
    the run for ever.
    """
    per_round = hub.config.aggregation.institutions_per_round
    if per_round is None:
        return tuple(sorted(hub.institutions))
    attempt = sum(record.round == state.next_round for record in state.missed)
    place = f"fedfin choice 1|{hub.config.seed}|{state.run_id}|{state.next_round}|{attempt}"
    drawn = sorted(hub.institutions, key=lambda name: hashlib.sha256(f"{place}|{name}".encode()).digest())
    return tuple(sorted(drawn[:per_round]))


def _check(state: RunState, hub: FederationContext) -> None:
    config = hub.config
    if state.config_digest != config.digest():
        raise CheckpointError(f"run {state.run_id}: saved under another configuration: restore it, or start a new run")
    if Spec.of(state.adapter) != hub.spec:
        raise CheckpointError(f"run {state.run_id}: its adapter is not of this base model and task: start a new run")
    for key in ("institutions_per_round", "quorum"):
        number = getattr(config.aggregation, key)
        if number is not None and number > len(hub.institutions):
            raise ConfigurationError(
                f"aggregation.{key}: {number}, but {len(hub.institutions)} institutions are enrolled: lower it"
            )


def _assignment(state: RunState, hub: FederationContext) -> bytes:
    return Assignment(
        run_id=state.run_id,
        round=state.next_round,
        config_json=hub.config.to_json(),
        spec_json=hub.spec.to_json(),
        adapter=state.encoded,
        code_digest=code_digest(),
    ).to_bytes()


def _seal(assignment: bytes, state: RunState, hub: FederationContext, name: str) -> bytes:
    context = MessageContext(state.run_id, state.next_round, "assignment", hub.keys.name, name)
    return seal(assignment, hub.keys, hub.institutions[name], context)


def _expected(state: RunState, hub: FederationContext, asked: tuple[str, ...]) -> Expected:
    return Expected(
        run_id=state.run_id,
        round=state.next_round,
        hub=hub.keys,
        asked={name: hub.institutions[name] for name in asked},
        enrolled=frozenset(hub.institutions),
        config=hub.config,
        spec=hub.spec,
        code_digest=code_digest(),
        adapter=state.adapter,
        seen=frozenset(seen for record in state.history for seen in record.contributions.values()),
    )


def _record(
    state: RunState,
    asked: tuple[str, ...],
    verdict: Verdict,
    sealed: Mapping[str, bytes],
    replies: Mapping[str, bytes | Failure],
) -> RoundRecord:
    """What is known of the round before anything is combined."""
    accepted = verdict.accepted
    return RoundRecord(
        round=state.next_round,
        asked=asked,
        contributed=tuple(accepted),
        outcomes=verdict.outcomes,
        metrics=None,
        by_institution=None,
        epsilon={name: reply.statement.epsilon for name, reply in accepted.items() if reply.statement is not None},
        bytes_up=sum(len(reply) for reply in replies.values() if isinstance(reply, bytes)),
        bytes_down=sum(map(len, sealed.values())),
        seconds=0.0,
        adapter_digest=state.adapter_digest,
        contributions={name: reply.digest for name, reply in accepted.items()},
    )


def _miss(state: RunState, record: RoundRecord, hub: FederationContext, save: Save, audit: Audit) -> NoReturn:
    save(replace(state, missed=(*state.missed, record)))
    audit("round_missed", {"run_id": state.run_id, **record.to_json()})
    reasons = ", ".join(f"{name} {outcome}" for name, outcome in record.outcomes.items() if outcome != CONTRIBUTED)
    raise QuorumError(
        f"run {state.run_id}, round {record.round}: {len(record.contributed)} of {len(record.asked)} contributed, "
        f"the quorum is {hub.config.aggregation.quorum} ({reasons}): the run is saved, resume it when they are back"
    )


def _combine(
    state: RunState, verdict: Verdict, hub: FederationContext
) -> tuple[Tensors, aggregation.OptimizerState, dict[str, float]]:
    """The next adapter and optimiser state, and each contributor's share."""
    settings = hub.config.aggregation
    bands = {name: reply.declared_units for name, reply in verdict.accepted.items()}
    shares = aggregation.weights(bands, settings.weighting)
    mean = aggregation.weighted_mean({name: reply.adapter for name, reply in verdict.accepted.items()}, shares)
    optimizer = optimizer_of_round(settings, state.next_round, hub.config.rounds)
    adapter, optimizer_state = optimizer.step(state.adapter, mean, dict(state.optimizer_state))
    return adapter, optimizer_state, shares


def _is_evaluated(round_: int, config: RunConfig) -> bool:
    return round_ % config.evaluation.every_rounds == 0 or round_ == config.rounds


def _standing(state: RunState) -> dict[str, Any]:
    """Where the run stands, for the audit log; a kill between saving and telling shows here on return."""
    return {
        "run_id": state.run_id,
        "config_digest": state.config_digest,
        "next_round": state.next_round,
        "attempts_missed": len(state.missed),
        "adapter_digest": state.adapter_digest,
    }

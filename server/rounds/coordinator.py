"""The hub's side of a run, step by step. It knows neither Flower nor torch.

A round is a function of the saved state. If the process is killed, the round is executed again from the last
checkpoint, with the same assignment to the same institutions. An institution answers the same assignment with the same
bytes.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from common.config.run import RunConfig
from common.errors import CheckpointError, ConfigurationError, QuorumError
from common.events import Observer, tell_round
from common.protocol.adapter_codec import Spec, Tensors, digest
from common.protocol.outcomes import RoundOutcome
from common.report.records import RoundRecord
from common.source import code_digest
from common.weighting import weights
from server.rounds import aggregation
from server.rounds.admission import Expected, Failure, Verdict, adapter_of, admit, receipts
from server.rounds.aggregation import optimizer_of_round
from server.rounds.assignments import FederationContext, counted_units, sample_institutions, sealed_assignments
from server.rounds.checkpoint import RunState
from server.rounds.gathered import Gathered
from server.rounds.secure import SecureRounds
from server.rounds.transport import Transport

__all__ = ["Evaluation", "Transport", "run"]

log = logging.getLogger("fedfin.run")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one adapter on the whole test set of the hub, and on each institution's share of it."""

    metrics: Mapping[str, float]
    by_institution: Mapping[str, Mapping[str, float]]


Evaluate = Callable[[Tensors], Evaluation | None]
Save = Callable[[RunState], None]
Audit = Callable[[str, dict[str, Any]], object]


def run(
    state: RunState,
    federation: FederationContext,
    transport: Transport,
    evaluate: Evaluate,
    save: Save,
    audit: Audit,
    observers: Sequence[Observer] = (),
) -> RunState:
    """Execute the rounds that are left and return the final state.

    Args:
        state: The state to start from.
        federation: Keys, institutions, configuration and tensors.
        transport: Carries the sealed messages.
        evaluate: Evaluates an adapter on the hub's test set. Returns None without a test set.
        save: Called with every state, before the audit log mentions it.
        audit: Appends an entry of a kind and a body to the run's audit log.
        observers: Called with the record of every finished round.

    Raises:
        QuorumError: Too few contributions counted. The attempt is saved and the round is still due.
        CheckpointError, ConfigurationError: State, configuration and enrolled institutions do not fit together.
        AdapterRefused: The combined adapter exceeds the range of float32.
    """
    _check(state, federation)
    secure = SecureRounds(federation, transport) if federation.config.aggregation.secure else None
    audit("run_continued" if state.history or state.missed else "run_started", _position(state))
    while state.next_round <= federation.config.rounds:
        state = _execute_round(state, federation, transport, secure, evaluate, save, audit)
        tell_round(observers, state.history[-1])
    if federation.config.personalisation.method != "none" and not state.delivered:
        state = _deliver(state, federation, transport, save, audit)
    return state


def _deliver(
    state: RunState, federation: FederationContext, transport: Transport, save: Save, audit: Audit
) -> RunState:
    """Send every institution the final adapter, for its personal model, and record the outcome of each.

    Nothing comes back but a receipt. An institution that is absent keeps what it has.
    """
    names = tuple(sorted(federation.institutions))
    sealed = sealed_assignments(state, federation, names)
    replies = transport.exchange(state.next_round, sealed, federation.config.aggregation.deadline_s)
    outcomes = receipts(replies, _expected(state, federation, names))
    after = replace(state, delivered=True)
    save(after)
    audit("final_adapter_delivered", {"run_id": state.run_id, "outcomes": dict(outcomes)})
    return after


def _execute_round(
    state: RunState,
    federation: FederationContext,
    transport: Transport,
    secure: SecureRounds | None,
    evaluate: Evaluate,
    save: Save,
    audit: Audit,
) -> RunState:
    started = time.monotonic()

    # 1. Sample the institutions.
    asked = sample_institutions(state, federation)

    # 2. to 4. Ask them, collect what they send and admit the answers that count.
    expected = _expected(state, federation, asked)
    gathered = secure.gather(state, expected) if secure is not None else _gather(state, federation, transport, expected)
    record = gathered.record
    outcomes = ", ".join(f"{name} {outcome}" for name, outcome in record.outcomes.items())
    log.info("run %s, round %d: %s", state.run_id, state.next_round, outcomes)

    # 5. Without a quorum only the attempt is recorded.
    if gathered.mean is None:
        missed = replace(record, seconds=time.monotonic() - started)
        _miss(state, missed, gathered.needed, save, audit)

    # 6. Combine the contributions into the next global adapter.
    mean, shares = gathered.mean, gathered.shares
    optimizer = optimizer_of_round(federation.config.aggregation, state.next_round, federation.config.rounds)
    adapter, optimizer_state = optimizer.step(state.adapter, mean, dict(state.optimizer_state))

    # 7. Evaluate it on the hub's own test set.
    evaluation = evaluate(adapter) if _is_evaluated(state.next_round, federation.config) else None

    # 8. Save before the audit log says that the round is closed.
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


def _gather(state: RunState, federation: FederationContext, transport: Transport, expected: Expected) -> Gathered:
    """Gather the contributions of a round."""
    # 2. Write an assignment for each, a pure function of state and federation. Sign it and seal it to its institution.
    sealed = sealed_assignments(state, federation, tuple(expected.asked))

    # 3. Let the institutions train and collect their sealed answers.
    replies = transport.exchange(state.next_round, sealed, federation.config.aggregation.deadline_s)

    # 4. Admit the replies that count, and record the outcome of the others.
    verdict = admit(replies, expected)
    record = _record(state, tuple(expected.asked), verdict, sealed, replies)
    needed = federation.config.aggregation.quorum
    if len(verdict.accepted) < needed:
        return Gathered(record, needed, None, {})
    declared = {name: counted_units(name, reply.declared_units, federation) for name, reply in verdict.accepted.items()}
    shares = weights(declared, federation.config.aggregation.weighting)
    # The weights follow from all that counts. So each reply is opened once to admit it, and once more to add it.
    mean = aggregation.weighted_mean(lambda name: adapter_of(name, replies[name], expected), shares)
    return Gathered(record, needed, mean, shares)


def _check(state: RunState, federation: FederationContext) -> None:
    config = federation.config
    if state.config_digest != config.digest():
        raise CheckpointError(
            f"run {state.run_id}: it was saved under another configuration: restore that one, or start a new run"
        )
    if Spec.of(state.adapter) != federation.spec:
        raise CheckpointError(f"run {state.run_id}: its adapter belongs to another base model or task: start a new run")
    for key in ("institutions_per_round", "quorum", "threshold"):
        number = getattr(config.aggregation, key)
        if number is not None and number > len(federation.institutions):
            raise ConfigurationError(
                f"aggregation.{key}: {number}, but {len(federation.institutions)} institutions are enrolled: lower it"
            )
    config.aggregation.check_institutions(len(federation.institutions))


def _expected(state: RunState, federation: FederationContext, asked: tuple[str, ...]) -> Expected:
    return Expected(
        run_id=state.run_id,
        round=state.next_round,
        hub=federation.keys,
        asked={name: federation.institutions[name] for name in asked},
        enrolled=frozenset(federation.institutions),
        config=federation.config,
        spec=federation.spec,
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
    """Return the facts of the round before the contributions are combined."""
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


def _miss(state: RunState, record: RoundRecord, needed: int, save: Save, audit: Audit) -> NoReturn:
    save(replace(state, missed=(*state.missed, record)))
    audit("round_missed", {"run_id": state.run_id, **record.to_json()})
    reasons = ", ".join(
        f"{name} {outcome}" for name, outcome in record.outcomes.items() if outcome != RoundOutcome.CONTRIBUTED
    )
    raise QuorumError(
        f"run {state.run_id}, round {record.round}: {len(record.contributed)} of {len(record.asked)} contributed, "
        f"the quorum is {needed} ({reasons}): resume the run when they are back"
    )


def _is_evaluated(round_: int, config: RunConfig) -> bool:
    return round_ % config.evaluation.every_rounds == 0 or round_ == config.rounds


def _position(state: RunState) -> dict[str, Any]:
    """Return the position of the run for the audit log. It shows a kill between saving and logging."""
    return {
        "run_id": state.run_id,
        "config_digest": state.config_digest,
        "next_round": state.next_round,
        "attempts_missed": len(state.missed),
        "adapter_digest": state.adapter_digest,
    }

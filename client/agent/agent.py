"""The vault: keys, data, ledger and the loaded model, behind one question.

`Agent.handle` takes a sealed assignment and returns a sealed answer. `Agent.answering` is the same work. A simulation
can pause it before the gradients, to compute those of several institutions at once. Nothing else of an institution can
be reached from outside, and nothing in the answer is private and un-noised: an adapter trained under differential
privacy, the parameters the run fixed, the declared units, or a refusal code.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.agent.outbox import answer_name, forget_before, latest_answered
from client.agent.run_facts import run_facts
from client.agent.secure import QUESTIONS, Peers, SecureSessions
from client.dp.pause import Pausing, to_end
from client.federation import local_round
from client.federation.local_round import PreparedData
from client.federation.secure_sum import noised_sum, range_of_sums
from client.institution.config import InstitutionConfig
from client.institution.paths import InstitutionPaths
from client.institution.say import Say
from client.personalisation.finish import begin, finish
from client.personalisation.methods import method_of
from client.personalisation.part import PersonalPart
from client.tracking.rounds import RoundTracker, run_directory
from common.adapters.adapted_model import AdaptedModel
from common.adapters.travelling import complete, travelling_spec
from common.config.run import RunConfig
from common.data.datasets import Dataset
from common.errors import AdapterRefused, AssignmentRefused, ConfigurationError, FedfinError, MessageError
from common.events import Observer, Stopping
from common.files import write_atomic
from common.identity.keys import PrivateKeys
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import Tensors, decode
from common.protocol.envelope import MessageContext, PublicKeys, open_sealed, peek, seal
from common.protocol.messages import Assignment, Contribution, Receipt, Refusal, RefusalCode
from common.protocol.updates import encode_update
from common.secure_aggregation.messages import MaskedSum
from common.secure_aggregation.participant import Participant
from common.source import code_digest

__all__ = ["Agent", "LocalModel"]

log = logging.getLogger("fedfin.institution")

_run_config = functools.lru_cache(maxsize=4)(RunConfig.from_json)
"""Each round brings the text of the run's configuration again. It is parsed and checked once."""


@dataclass(frozen=True)
class LocalModel:
    """The base model with the run's adapter attached, and this institution's rows prepared for it.

    Attributes:
        labels: The institution's own labels, if it keeps its own head. Empty: those of the run.
        test: The institution's own test rows. None without any.
    """

    adapted: AdaptedModel
    data: PreparedData
    base_digest: str
    labels: tuple[str, ...] = ()
    test: Dataset | None = None


class Agent:
    """One institution.

    Args:
        directory: holds the ledger, begun before, and the outbox. It is the only place of this institution's state.
        keys: the institution's own signing and sealing keys.
        hub: the public keys that assignments must be signed with, and answers are sealed to.
        prepare: loads the model a run asks for and this institution's data for it, or raises `AssignmentRefused`.
        peers: Returns the institutions that the officer approved for secure aggregation.
    """

    def __init__(
        self,
        directory: Path,
        institution: InstitutionConfig,
        keys: PrivateKeys,
        hub: PublicKeys,
        prepare: Callable[[RunConfig], LocalModel],
        observers: Sequence[Observer] = (),
        peers: Peers = dict,
    ) -> None:
        self.directory = directory
        self.institution = institution
        self.keys = keys
        self.hub = hub
        self.prepare = prepare
        self.observers = tuple(observers)
        units = institution.release.declared_units
        self.secure = SecureSessions(keys, peers, units, self._masked, self._finish_secure)

    def handle(self, sealed: bytes) -> bytes:
        """Answer one assignment. A retransmission is answered with the same bytes and costs nothing.

        Raises:
            EnvelopeError, MessageError: not an assignment of this hub to this institution. Nobody is there to be
            answered.
        """
        return to_end(self.answering(sealed))

    def answering(self, sealed: bytes) -> Pausing[bytes]:
        """Do as `handle`, and pause once the ledger is charged and the batch is drawn. See `client.dp.pause`."""
        context = peek(sealed)
        kind = context.kind if context.kind in QUESTIONS else "assignment"
        expected = MessageContext(context.run_id, context.round, kind, self.hub.name, self.keys.name)
        payload = open_sealed(sealed, self.keys, self.hub, expected)
        if kind in QUESTIONS:
            return (yield from self._answer_secure(payload, context))
        assignment = Assignment.from_bytes(payload)
        if (assignment.run_id, assignment.round) != (context.run_id, context.round):
            raise MessageError("the assignment inside the envelope is for another run or round: nothing was done")
        outbox = InstitutionPaths(self.directory).outbox(assignment.run_id)
        name = answer_name(assignment.round, payload)
        if (outbox / name).exists():
            return (outbox / name).read_bytes()
        try:
            latest = latest_answered(outbox)
            if assignment.round <= latest:
                raise AssignmentRefused(RefusalCode.REPLAY, f"round {latest} of this run was answered already")
            config = _run_config(assignment.config_json)
            answer = yield from self._answer(assignment, config, outbox)
        except FedfinError as error:
            return self._refuse(error, context)
        write_atomic(outbox / "config", config.digest().encode())
        if assignment.members:
            Say(assignment.share, assignment.members).write(outbox)
        reply = self._seal(answer.to_bytes(), context, "receipt" if isinstance(answer, Receipt) else "contribution")
        write_atomic(outbox / name, reply, mode=0o600)
        forget_before(outbox, assignment.round)
        return reply

    def _answer_secure(self, payload: bytes, context: MessageContext) -> Pausing[bytes]:
        """Answer a question of secure aggregation. Only the masked sum of a round is computed from rows."""
        question = QUESTIONS[context.kind].from_bytes(payload)
        if question.round != context.round:
            raise MessageError("the question inside the envelope is for another round: nothing was done")
        try:
            answer = yield from self.secure.answering(context.run_id, question)
        except FedfinError as error:
            return self._refuse(error, context)
        return self._seal(answer.to_bytes(), context, answer.kind())

    def _refuse(self, error: FedfinError, context: MessageContext) -> bytes:
        """Return the sealed refusal of a message. Its code is all that leaves of the error."""
        if isinstance(error, AssignmentRefused):
            log.warning("round %d refused (%s): %s", context.round, error.code, error)
            code = RefusalCode(error.code)
        else:
            log.error("round %d failed: %s", context.round, error)
            code = RefusalCode.CONFIG if isinstance(error, AdapterRefused | ConfigurationError) else RefusalCode.ERROR
        return self._seal(Refusal(context.run_id, context.round, code).to_bytes(), context, "refusal")

    def is_replay(self, assignment: Assignment) -> bool:
        """Return whether this or a later round of the run was answered, and not to this assignment."""
        outbox = InstitutionPaths(self.directory).outbox(assignment.run_id)
        kept = outbox / answer_name(assignment.round, assignment.to_bytes())
        return assignment.round <= latest_answered(outbox) and not kept.exists()

    def _check(self, assignment: Assignment, config: RunConfig, outbox: Path) -> bool:
        """Refuse an assignment that is not one of the run. Return whether it brings the final adapter."""
        if assignment.code_digest != code_digest():
            raise AssignmentRefused(RefusalCode.CONFIG, "the hub runs other code than this institution reviewed")
        is_final = config.personalisation.method != "none" and assignment.round == config.rounds + 1
        if not (1 <= assignment.round <= config.rounds or is_final):
            # Noise that meets a target epsilon is calibrated over the run's rounds: one more would exceed it.
            raise AssignmentRefused(RefusalCode.CONFIG, f"the run has {config.rounds} rounds and this is none of them")
        bound = outbox / "config"
        if bound.exists() and bound.read_text() != config.digest():
            # The noise of the rounds answered so far was calibrated for the configuration they came with.
            raise AssignmentRefused(RefusalCode.CONFIG, "the hub changed the configuration of a run that has begun")
        return is_final

    def _job(
        self, assignment: Assignment, config: RunConfig, local: LocalModel, ledger: PrivacyLedger
    ) -> local_round.FederatedJob:
        return local_round.FederatedJob(
            config=config,
            run_id=assignment.run_id,
            round=assignment.round,
            hub=self.hub.name,
            institution=self.institution,
            ledger=ledger,
            model=local.adapted,
            data=local.data,
            base_digest=local.base_digest,
            observers=self.observers,
        )

    def _ledger(self) -> PrivacyLedger:
        return PrivacyLedger.open(self.directory / "ledger.jsonl", self.keys, begun=True)

    def _masked(self, assignment: Assignment, party: Participant, members: tuple[str, ...]) -> Pausing[MaskedSum]:
        """Train one round and mask its noised sum. The ledger is charged first."""
        outbox = InstitutionPaths(self.directory).outbox(assignment.run_id)
        latest, name = latest_answered(outbox), answer_name(assignment.round, assignment.to_bytes())
        # A round whose result was lost in a crash is done again, with the same assignment alone.
        if assignment.round < latest or (assignment.round == latest and not (outbox / name).exists()):
            raise AssignmentRefused(RefusalCode.REPLAY, f"round {latest} of this run was answered already")
        config = _run_config(assignment.config_json)
        if config.digest() != party.terms.config_digest:
            raise AssignmentRefused(RefusalCode.CONFIG, "the configuration is not that of the session")
        self._check(assignment, config, outbox)
        local = self.prepare(config)
        shared = decode(assignment.adapter, travelling_spec(local.adapted, config))
        with self._ledger() as ledger:
            job = self._job(assignment, config, local, ledger)
            job.model.load(shared)
            watch = RoundTracker(run_directory(self.directory, job.run_id), job.round, config.rounds)
            watched = replace(job, observers=(*job.observers, watch))
            range_ = range_of_sums(job, party.bits, len(party.terms.roster))
            outcome, noised = yield from noised_sum(watched, range_)
            findings = InstitutionPaths(self.directory).inspection_path
            watch.finish(run_facts(job.run_id, config, job.model, outcome), findings)
        if outcome.statement is None or outcome.epsilon_alone is None:
            raise AssignmentRefused(
                RefusalCode.CONFIG, "secure aggregation adds up noised integers, and there are none"
            )
        write_atomic(outbox / "config", config.digest().encode())
        if assignment.members:
            Say(assignment.share, assignment.members).write(outbox)
        return MaskedSum(
            terms=party.terms.digest,
            round=assignment.round,
            values=party.mask(assignment.round, members, noised, range_),
            spec_digest=travelling_spec(job.model, config).digest(),
            code_digest=code_digest(),
            declared_units=self.institution.release.declared_units,
            statement=outcome.statement,
            epsilon_alone=outcome.epsilon_alone,
        )

    def _finish_secure(self, run_id: str, round_: int, assignment: bytes) -> None:
        """Note that a round was answered, before its masks can be taken off. No other one of that number is."""
        outbox = InstitutionPaths(self.directory).outbox(run_id)
        write_atomic(outbox / answer_name(round_, assignment), b"", mode=0o600)
        forget_before(outbox, round_)

    def _answer(self, assignment: Assignment, config: RunConfig, outbox: Path) -> Pausing[Contribution | Receipt]:
        is_final = self._check(assignment, config, outbox)
        local = self.prepare(config)
        shared = decode(assignment.adapter, travelling_spec(local.adapted, config))
        with self._ledger() as ledger:
            job = self._job(assignment, config, local, ledger)
            part = PersonalPart(InstitutionPaths(self.directory).personal(assignment.run_id))
            if is_final:
                _make_personal(job, part, shared, local)
                return Receipt(assignment.run_id, assignment.round)
            return (yield from self._contribute(job, part, shared))

    def _contribute(self, job: local_round.FederatedJob, part: PersonalPart, shared: Tensors) -> Pausing[Contribution]:
        """Train one round from the tensors that travelled and those that stayed. Only what travels is returned."""
        config, model = job.config, job.model
        method = method_of(config.personalisation)
        started = complete(method.receive(shared, part.before(job.round)), model)
        model.load(started)
        if config.personalisation.method != "none":
            begin(job, part)
        watch = RoundTracker(run_directory(self.directory, job.run_id), job.round, config.rounds)
        outcome = yield from local_round.pausing_run(replace(job, observers=(*job.observers, watch)))
        findings = InstitutionPaths(self.directory).inspection_path
        watch.finish(run_facts(job.run_id, config, model, outcome), findings)
        sent, stays = method.send(shared, started, model.export())
        part.keep(job.round, stays)
        return Contribution(
            run_id=job.run_id,
            round=job.round,
            adapter=encode_update(sent, shared, config.aggregation.update_dtype),
            spec_digest=travelling_spec(model, config).digest(),
            code_digest=code_digest(),
            statement=outcome.statement,
            declared_units=self.institution.release.declared_units,
        )

    def _seal(self, payload: bytes, context: MessageContext, kind: str) -> bytes:
        answer = replace(context, kind=kind, sender=self.keys.name, recipient=self.hub.name)
        return seal(payload, self.keys, self.hub, answer)


def _make_personal(job: local_round.FederatedJob, part: PersonalPart, shared: Tensors, local: LocalModel) -> None:
    """Make the personal model. An error stays in the log: it may depend on the rows, and the receipt must not."""
    try:
        finish(job, part, shared, local.labels or job.config.labels, local.test)
    except Stopping:
        raise
    except Exception as error:
        why = error if isinstance(error, FedfinError) else type(error).__name__
        log.error("round %d: the personal model could not be made: %s", job.round, why)

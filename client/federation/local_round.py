"""One institution's part of one round: charge the ledger, train, hand back the adapter.

The order is the guarantee. The cost of the training follows from the institution's own data and limits. The ledger is
charged before the data is touched. Only then does a gradient exist. A crash after the charge leaves it standing.
"""

import hashlib
from dataclasses import dataclass

from client.dp.mechanism import DpSettings
from client.dp.noise import FixedNoise, NoiseSource, SystemNoise
from client.dp.pause import Pausing, to_end
from client.dp.plan import DpTrainingPlan, DpTrainingStats, SumRelease
from client.dp.training import pausing_train, verify_training
from client.federation.planning import event_of_round, propose_training, steps_of_run, steps_per_round
from client.institution.config import InstitutionConfig
from client.institution.limits import charge_training
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.config.run import RunConfig
from common.errors import AssignmentRefused, ModelError
from common.events import Observer
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import Charge, ChargeContext, alone
from common.privacy.ledger import PrivacyLedger
from common.protocol.messages import PrivacyStatement, RefusalCode
from common.tokenization.batches import TokenizedSet

__all__ = ["FederatedJob", "PreparedData", "charge_and_train", "pausing_run", "plan_training", "run"]


@dataclass(frozen=True)
class PreparedData:
    """An institution's training rows, tokenised once, with the frozen blocks' output cached beside them."""

    tokens: TokenizedSet
    fingerprint: str
    cache: FeatureCache | None = None

    def units(self, unit: str) -> int:
        """How many records, or customers, there are.

        Raises:
            Refused: the rows carry no customer.
        """
        if unit == "record" or not len(self.tokens):
            return len(self.tokens)
        if self.tokens.customers is None:
            raise AssignmentRefused(
                RefusalCode.CONFIG, "the run protects customers, but no column of the data names them"
            )
        return self.tokens.customers


@dataclass(frozen=True)
class FederatedJob:
    """Everything one round needs. `model` holds the hub's adapter, which has passed the codec's gate."""

    config: RunConfig
    run_id: str
    round: int
    hub: str
    institution: InstitutionConfig
    ledger: PrivacyLedger
    model: AdaptedModel
    data: PreparedData
    base_digest: str
    observers: tuple[Observer, ...] = ()


@dataclass(frozen=True)
class RoundAnswer:
    """Result of a round at the institution. Only the adapter, the statement and `epsilon_alone` travel.

    `epsilon_alone` is the epsilon of the statement without the noise of other institutions.
    """

    statement: PrivacyStatement | None
    seconds: float
    epsilon_alone: float | None = None


def plan_training(config: RunConfig, institution: InstitutionConfig, num_units: int, round_: int = 1) -> DpTrainingPlan:
    """Plan the training of one round. It costs exactly the event that `event_of_round` returns.

    Args:
        num_units: Number of records or customers.
        round_: Number of the round, from 1. It decides only the order of batches without privacy.

    Raises:
        AssignmentRefused: See `event_of_round`.
    """
    return _plan(config, institution, event_of_round(config, institution, num_units), round_)


def _plan(config: RunConfig, institution: InstitutionConfig, event: DpSgdEvent, round_: int) -> DpTrainingPlan:
    dp, privacy, training = None, config.privacy, config.training
    if privacy.mode != "none":
        dp = DpSettings(
            noise_multiplier=alone(event, config.aggregation.honest).noise_multiplier,
            clipping_norm=privacy.clipping_norm,
            sampling_probability=event.sampling_probability,
            steps=event.steps,
            expected_batch_size=event.sampling_probability * institution.assumed_units,
            unit=privacy.unit,
        )
    return DpTrainingPlan(
        steps=event.steps,
        sampling_probability=event.sampling_probability,
        learning_rate=training.learning_rate,
        head_learning_rate=training.head_learning_rate or training.learning_rate,
        optimizer=training.optimizer,
        max_batch_tokens=training.max_batch_tokens,
        dp=dp,
        seed=training_seed(config.seed, institution.name, round_),
        adam_noise_correction=training.adam_noise_correction,
    )


def training_seed(seed: int, institution: str, round_: int) -> int:
    """Return the seed of one training, 63 bits of a SHA-256 over the run's seed and the names of its place.

    It orders the batches of a training without privacy, and draws no noise.

    >>> training_seed(1, "bank", 2) == training_seed(1, "bank", 3)
    False
    """
    text = f"fedfin training|{seed}|{institution}|{round_}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def noise_source(job: FederatedJob) -> NoiseSource:
    """Return fresh operating-system entropy for each training. The fixed source exists in simulation alone."""
    if job.institution.noise == "system":
        return SystemNoise()
    text = f"fixed noise, not private|{job.config.seed}|{job.institution.name}|{job.round}"
    return FixedNoise(hashlib.sha256(text.encode()).digest())


def _charge(job: FederatedJob, event: DpSgdEvent, num_units: int) -> Charge:
    """Charge the round, or return the charge of an interrupted attempt that had the very same noise.

    Only fixed noise repeats itself. With the operating system's noise every attempt is a release of its own.
    """
    if event.noise_multiplier and job.institution.noise == "fixed":
        place = (job.run_id, job.round, event)
        for charge in reversed(job.ledger.charges):
            reservation = charge.reservation
            if (reservation.use.run_id, reservation.use.round, reservation.event) == place:
                return charge
    privacy = job.config.privacy
    context = ChargeContext(
        run_id=job.run_id,
        round=job.round,
        requester=job.hub,
        task=job.config.task,
        base_digest=job.base_digest,
        data_fingerprint=job.data.fingerprint,
        num_units=num_units,
        unit=privacy.unit,
        delta=privacy.delta,
        clipping_norm=privacy.clipping_norm,
        noise=job.institution.noise,
        run_steps=steps_of_run(job.config, steps_per_round(job.config, event.sampling_probability)),
        honest=job.config.aggregation.honest,
    )
    training = propose_training(job.config, num_units)
    return Charge(charge_training(job.ledger, job.institution, training, event, context))


def charge_and_train(job: FederatedJob, event: DpSgdEvent, plan: DpTrainingPlan, num_units: int) -> DpTrainingStats:
    """Charge the ledger, then train `job.model` in place.

    Args:
        event: The mechanism that is charged.
        plan: The training. Without `dp` in a private run its result stays inside, and nothing is charged.
        num_units: Number of records or customers.

    Raises:
        AssignmentRefused: The institution's limits or its budget forbid this training, or the model cannot be trained
            privately at the adapter that it holds. Nothing was charged.
    """
    return to_end(_charge_and_train(job, event, plan, num_units, None))


def _charge_and_train(
    job: FederatedJob, event: DpSgdEvent, plan: DpTrainingPlan, num_units: int, release: SumRelease | None
) -> Pausing[DpTrainingStats]:
    cache = job.data.cache or FeatureCache()
    try:
        verify_training(job.model, plan)
    except ModelError as error:
        raise AssignmentRefused(RefusalCode.BASE_MODEL, str(error)) from error
    charge = None if event.noise_multiplier and plan.dp is None else _charge(job, event, num_units)
    noise = None if plan.dp is None else noise_source(job)
    stats = yield from pausing_train(
        job.model, job.data.tokens, plan, noise, cache=cache, observers=job.observers, release=release
    )
    if plan.dp is not None and charge is not None and charge.steps_done is None:
        job.ledger.settle(charge.reservation, plan.steps)
    return stats


def run(job: FederatedJob, release: SumRelease | None = None) -> RoundAnswer:
    """Train `job.model`, which holds the global adapter, in place.

    Args:
        job: The round.
        release: Takes the noised sums, and the model stays as it is.

    Raises:
        AssignmentRefused: The institution's limits or its budget forbid this training, or the model cannot be trained
            privately at the adapter that the hub sent. Nothing was charged.
    """
    return to_end(pausing_run(job, release))


def pausing_run(job: FederatedJob, release: SumRelease | None = None) -> Pausing[RoundAnswer]:
    """Do as `run`, and pause once the ledger is charged and the batch is drawn. See `client.dp.pause`."""
    privacy = job.config.privacy
    if job.config.aggregation.secure is (release is None):
        # Its own noise alone would not be that of the run.
        raise AssignmentRefused(RefusalCode.CONFIG, "the run's updates leave under secure aggregation, or not at all")
    num_units = job.data.units(privacy.unit)
    event = event_of_round(job.config, job.institution, num_units)
    plan = _plan(job.config, job.institution, event, job.round)
    stats = yield from _charge_and_train(job, event, plan, num_units, release)
    if plan.dp is None or privacy.delta is None:
        return RoundAnswer(statement=None, seconds=stats.seconds)
    statement = PrivacyStatement(
        noise_multiplier=event.noise_multiplier,
        clipping_norm=privacy.clipping_norm,
        steps=event.steps,
        delta=privacy.delta,
        epsilon=job.ledger.epsilon(privacy.delta, job.run_id),
        sampling_probability=job.config.training.sampling_rate,
    )
    alone_ = statement.epsilon if release is None else job.ledger.epsilon_alone(privacy.delta, job.run_id)
    return RoundAnswer(statement=statement, seconds=stats.seconds, epsilon_alone=alone_)

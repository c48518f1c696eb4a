"""One institution's part of one round: charge the ledger, train, hand back the adapter.

The order is the guarantee. What the training will cost is worked out from the institution's own data and limits;
the ledger is charged before the data is touched; only then does a gradient exist. A crash after the charge leaves
it standing.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from client.dp.mechanism import DpSettings
from client.dp.noise import FixedNoise, NoiseSource, SystemNoise
from client.dp.training import DpTrainingPlan, train
from client.federation.planning import AssignmentRefused, assumed_units, event_of_round, sampling_rate
from client.institution.config import InstitutionSettings
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.config.run import RunConfig
from common.errors import BudgetExceeded
from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.ledger import Charge, ChargeContext, PrivacyLedger
from common.protocol.messages import PrivacyStatement, RefusalCode
from common.tokenization.batches import TokenizedSet

__all__ = ["FederatedJob", "PreparedData", "plan_training", "run"]


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
        if unit == "record":
            return len(self.tokens)
        if self.tokens.customers is None:
            raise AssignmentRefused(
                RefusalCode.CONFIG, "the run protects customers, but no column of the data names them"
            )
        return self.tokens.customers


@dataclass(frozen=True)
class FederatedJob:
    """Everything one round needs. `model` holds what the hub sent, already past the codec's gate."""

    config: RunConfig
    run_id: str
    round: int
    hub: str
    settings: InstitutionSettings
    ledger: PrivacyLedger
    model: AdaptedModel
    data: PreparedData
    base_digest: str
    on_step: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class RoundAnswer:
    """What a round leaves at the institution; the statement is the only part besides the adapter that travels."""

    statement: PrivacyStatement | None
    seconds: float


def plan_training(config: RunConfig, units: int, settings: InstitutionSettings) -> DpTrainingPlan:
    """The training of one round over `units` records or customers: exactly what `event_of_round` says that it costs.

    Raises:
        Refused: see `event_of_round`.
    """
    privacy, rate = config.privacy, sampling_rate(config, units, settings)
    event = event_of_round(config, units, settings)
    dp = None
    if privacy.mode != "none":
        dp = DpSettings(
            noise_multiplier=event.noise_multiplier,
            clipping_norm=privacy.clipping_norm,
            sampling_probability=event.sampling_probability,
            steps=event.steps,
            expected_batch_size=rate * assumed_units(settings),
            clipping=privacy.clipping,
            unit=privacy.unit,
        )
    return DpTrainingPlan(
        steps=event.steps,
        sampling_probability=rate,
        learning_rate=config.training.learning_rate,
        head_learning_rate=config.training.head_learning_rate or config.training.learning_rate,
        optimizer=config.training.optimizer,
        max_batch_tokens=config.training.max_batch_tokens,
        dp=dp,
        seed=config.seed,
        adam_noise_correction=config.training.adam_noise_correction,
    )


def noise_source(job: FederatedJob) -> NoiseSource:
    """Fresh operating-system entropy for each training; the fixed source exists in simulation alone."""
    if job.settings.noise == "system":
        return SystemNoise()
    text = f"fixed noise, not private|{job.config.seed}|{job.settings.name}|{job.round}"
    return FixedNoise(hashlib.sha256(text.encode()).digest())


def _reserve(job: FederatedJob, event: DpSgdEvent) -> Charge:
    privacy = job.config.privacy
    use = ChargeContext(
        run_id=job.run_id,
        round=job.round,
        asked_by=job.hub,
        task=job.config.task,
        base_digest=job.base_digest,
        data_fingerprint=job.data.fingerprint,
        population=job.data.units(job.settings.unit),
        unit=job.settings.unit,
        delta=privacy.delta,
        clipping_norm=privacy.clipping_norm,
        noise=job.settings.noise,
    )
    try:
        return Charge(job.ledger.reserve(event, use, job.settings.limit))
    except BudgetExceeded as error:
        raise AssignmentRefused(RefusalCode.BUDGET, str(error)) from error


def _reserve_private(job: FederatedJob, event: DpSgdEvent, delta: float) -> Charge:
    if math.isinf(epsilon([*job.ledger.spent(job.run_id), event], delta)):
        # No statement could be made of it: it would be charged, infinitely, and never answered.
        raise AssignmentRefused(RefusalCode.PRIVACY_LIMIT, "with this training the run's epsilon would be infinite")
    return _reserve(job, event)


def _repeated(job: FederatedJob, event: DpSgdEvent) -> Charge | None:
    """An interrupted attempt at this round whose very noise would be repeated: the same release, charged once.

    Only fixed noise repeats itself; with the operating system's every attempt is a release of its own.
    """
    if job.settings.noise != "fixed":
        return None
    place = (job.run_id, job.round, event)
    charges = [(charge, charge.reservation) for charge in job.ledger.charges]
    same = [charge for charge, r in charges if (r.use.run_id, r.use.round, r.event) == place]
    return same[-1] if same else None


def run(job: FederatedJob) -> RoundAnswer:
    """Train `job.model`, which holds the global adapter, in place.

    Raises:
        Refused: the institution's limits or its budget forbid this training; nothing was charged.
    """
    plan = plan_training(job.config, job.data.units(job.config.privacy.unit), job.settings)
    plan = replace(plan, seed=plan.seed + job.round)
    delta = job.config.privacy.delta
    if plan.dp is None or delta is None:
        # Charged too: whatever follows on the same rows, no later statement may show a finite epsilon.
        _reserve(job, DpSgdEvent(noise_multiplier=0.0, sampling_probability=1.0, steps=plan.steps))
        stats = train(job.model, job.data.tokens, plan, None, cache=job.data.cache, on_step=job.on_step)
        return RoundAnswer(statement=None, seconds=stats.seconds)
    event = DpSgdEvent(
        noise_multiplier=plan.dp.noise_multiplier,
        sampling_probability=plan.sampling_probability,
        steps=plan.steps,
    )
    reservation = _repeated(job, event) or _reserve_private(job, event, delta)
    stats = train(job.model, job.data.tokens, plan, noise_source(job), cache=job.data.cache, on_step=job.on_step)
    if reservation.steps_done is None:
        job.ledger.settle(reservation.reservation, plan.steps)
    statement = PrivacyStatement(
        noise_multiplier=plan.dp.noise_multiplier,
        clipping_norm=plan.dp.clipping_norm,
        steps=plan.steps,
        delta=delta,
        epsilon=job.ledger.epsilon(delta, job.run_id),
        sampling_probability=job.config.training.sampling_rate,
    )
    return RoundAnswer(statement=statement, seconds=stats.seconds)

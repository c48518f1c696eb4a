"""One institution's part of one round: charge the ledger, train, hand back the adapter.

The order is the guarantee. What the training will cost is worked out from the institution's own data and limits;
the ledger is charged before the data is touched; only then does a gradient exist. A crash after the charge leaves
it standing.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from client.dp import DpSettings
from client.noise import FixedNoise, NoiseSource, SystemNoise
from client.settings import InstitutionSettings
from client.training import PrefixCache, TrainingPlan, train
from common.accounting import DpSgdEvent, calibrate, epsilon
from common.adapters import AdaptedModel
from common.config import RunConfig
from common.errors import BudgetExceeded
from common.ledger import Charge, PrivacyLedger, Use
from common.messages import PrivacyStatement, RefusalCode
from common.tokens import TokenizedSet

__all__ = ["FederatedJob", "PreparedData", "Refused", "plan_training", "run"]


class Refused(Exception):
    """The institution declines an assignment; only `code` is ever sent."""

    def __init__(self, code: RefusalCode, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class PreparedData:
    """An institution's training rows, tokenised once, with the frozen blocks' output cached beside them."""

    tokens: TokenizedSet
    fingerprint: str
    cache: PrefixCache | None = None

    def units(self, unit: str) -> int:
        """How many records, or customers, there are.

        Raises:
            Refused: the rows carry no customer.
        """
        if unit == "record":
            return len(self.tokens)
        if self.tokens.customers is None:
            raise Refused(RefusalCode.CONFIG, "the run protects customers, but no column of the data names them")
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
class Outcome:
    """What a round leaves at the institution; the statement is the only part besides the adapter that travels."""

    statement: PrivacyStatement | None
    seconds: float


def sampling_rate(config: RunConfig, units: int) -> float:
    """Poisson sampling probability q of every step: given by the run, or its expected batch over these units."""
    training = config.training
    if training.sampling_rate is not None:
        if training.sampling_rate * units < 1:
            unit = config.privacy.unit
            raise Refused(RefusalCode.CONFIG, f"the run's sampling rate draws less than one {unit} of this data a step")
        return training.sampling_rate
    if training.expected_batch_size is None or training.expected_batch_size > units:
        raise Refused(RefusalCode.CONFIG, "the run's expected batch is larger than this institution's data")
    return training.expected_batch_size / units


def steps_per_round(config: RunConfig, rate: float) -> int:
    """Steps of one round; an epoch is 1/q expected batches."""
    training = config.training
    if training.local_steps is not None:
        return training.local_steps
    return max(1, math.ceil((training.local_epochs or 1.0) / rate))


def plan_training(config: RunConfig, units: int, settings: InstitutionSettings) -> TrainingPlan:
    """The training of one round over `units` records or customers, its noise calibrated by the institution itself.

    A target epsilon is met over `rounds x steps`: the most participation the hub could ask for, so no luck in
    being left out is counted on.

    Raises:
        Refused: the run asks for less privacy than the institution's settings allow.
    """
    rate = sampling_rate(config, units)
    steps = steps_per_round(config, rate)
    return TrainingPlan(
        steps=steps,
        sampling_probability=rate,
        learning_rate=config.training.learning_rate,
        head_learning_rate=config.training.head_learning_rate or config.training.learning_rate,
        optimizer=config.training.optimizer,
        max_batch_tokens=config.training.max_batch_tokens,
        dp=_privacy(config, units, settings, rate, steps),
        seed=config.seed,
        adam_bias_correction=config.training.adam_bias_correction,
    )


def _privacy(
    config: RunConfig, units: int, settings: InstitutionSettings, rate: float, steps: int
) -> DpSettings | None:
    privacy = config.privacy
    if privacy.level == "none":
        if not settings.allow_without_privacy:
            raise Refused(RefusalCode.PRIVACY_LIMIT, "this institution does not train without differential privacy")
        return None
    if privacy.unit != settings.unit:
        kept = f"this institution's limits are for one {settings.unit}"
        raise Refused(RefusalCode.PRIVACY_LIMIT, f"the run protects one {privacy.unit}, {kept}")
    delta = _checked_delta(privacy.delta, units, settings)
    noise = privacy.noise_multiplier
    if privacy.target_epsilon is not None:
        noise = calibrate(privacy.target_epsilon, delta, rate, steps * config.rounds)
    if noise is None or noise <= 0 or noise < settings.min_noise_multiplier:
        raise Refused(RefusalCode.PRIVACY_LIMIT, "the run's noise is below this institution's minimum")
    return DpSettings(
        noise_multiplier=noise,
        clipping_norm=privacy.clipping_norm,
        sampling_probability=rate,
        steps=steps,
        expected_batch_size=rate * declared_size(settings, units),
        clipping=privacy.clipping,
        unit=privacy.unit,
    )


def declared_size(settings: InstitutionSettings, units: int) -> int:
    """The number of units that sums are divided by: the declared size band, so that it says nothing about the data.

    Where none is declared, the power of two at or below the number of units: an update's noise then shows that much.
    """
    return settings.size_band or 1 << (units.bit_length() - 1)


def _checked_delta(delta: float | None, units: int, settings: InstitutionSettings) -> float:
    """Delta below one over the units, by way of the officer's own where there is one.

    A hub that proposes one delta after another then learns the officer's, which was declared; the answers would
    otherwise count the units for it.
    """
    what = f"one over this institution's {settings.unit}s"
    if settings.delta is not None and settings.delta >= 1 / units:
        raise Refused(RefusalCode.PRIVACY_LIMIT, f"limits.delta is not below {what}")
    if delta is None or delta >= 1 / units or (settings.delta is not None and delta > settings.delta):
        raise Refused(RefusalCode.PRIVACY_LIMIT, f"the run's delta is above limits.delta, or not below {what}")
    return delta


def noise_source(job: FederatedJob) -> NoiseSource:
    """Fresh operating-system entropy for each training; the fixed source exists in simulation alone."""
    if job.settings.noise == "system":
        return SystemNoise()
    text = f"fixed noise, not private|{job.config.seed}|{job.settings.name}|{job.round}"
    return FixedNoise(hashlib.sha256(text.encode()).digest())


def _reserve(job: FederatedJob, event: DpSgdEvent) -> Charge:
    privacy = job.config.privacy
    use = Use(
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
        raise Refused(RefusalCode.BUDGET, str(error)) from error


def _reserve_private(job: FederatedJob, event: DpSgdEvent, delta: float) -> Charge:
    if math.isinf(epsilon([*job.ledger.spent(job.run_id), event], delta)):
        # No statement could be made of it: it would be charged, infinitely, and never answered.
        raise Refused(RefusalCode.PRIVACY_LIMIT, "with this training the run's epsilon would be infinite")
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


def run(job: FederatedJob) -> Outcome:
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
        return Outcome(statement=None, seconds=stats.seconds)
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
    return Outcome(statement=statement, seconds=stats.seconds)

"""Fine-tuning alone under differential privacy: the charge first, then the project's one DP-SGD loop.

All rows train and the last step is what is kept: no private row may choose an epoch, and no noise is ever stored. An
interrupted training therefore starts anew, and is charged anew.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.training import DpTrainingPlan, DpTrainingStats, train
from client.finetune.events import StepEvent, tell_step
from client.finetune.job import PrivacyOptions
from client.finetune.result import PrivacyGuarantee
from client.finetune.strategies.session import Session
from client.institution.config import InstitutionSettings, power_of_two_at_most
from client.institution.directory import InstitutionDirectory
from common.adapters.manifest import read_manifest, unprotected
from common.base_models.provenance import read_provenance
from common.config.run import LEVELS
from common.errors import ConfigurationError, DataError
from common.privacy.accounting import DpSgdEvent, calibrate
from common.privacy.ledger import ChargeContext, PrivacyLedger
from common.tokenization.batches import TokenizedSet

__all__ = ["train_privately"]


@dataclass(frozen=True)
class _Account:
    """Whose ledger is charged, and within which limits."""

    ledger: PrivacyLedger
    limits: InstitutionSettings | None


def train_privately(session: Session, rows: TokenizedSet) -> tuple[dict[str, float], PrivacyGuarantee]:
    """Train `session.model` on `rows` in place; what is known of the training, and what may be said of its privacy.

    Raises:
        BudgetExceeded: it does not fit in what is left of the institution's budget; nothing was charged.
        ConfigurationError: what is asked is less than the institution's settings allow, or means nothing.
        ModelError: this adapter has no per-example gradients; names one that has.
    """
    choice = session.job.privacy
    if choice is None:
        raise ConfigurationError("privacy: none was chosen")
    limits = InstitutionDirectory(choice.institution).settings().limits if choice.institution is not None else None
    if limits is not None and limits.unit != "record":
        raise ConfigurationError(
            f"privacy: this institution's limits.unit is {limits.unit}, and finetune protects single rows: "
            "leave --institution out, or train in a federation"
        )
    delta = _delta(choice, limits, len(rows))
    plan = _plan(session, choice, delta, len(rows), limits)
    if choice.institution is None:
        session.begin()
        path = session.job.out / "ledger.jsonl"
    else:
        path = InstitutionDirectory(choice.institution).ledger_path
    with PrivacyLedger.open(path, session.keys, begun=choice.institution is not None) as ledger:
        return _charge_and_train(session, _Account(ledger, limits), rows, plan, delta)


def _charge_and_train(
    session: Session, account: _Account, rows: TokenizedSet, plan: DpTrainingPlan, delta: float
) -> tuple[dict[str, float], PrivacyGuarantee]:
    dp = plan.dp
    if dp is None:
        raise ConfigurationError("privacy: none was chosen")
    event = DpSgdEvent(dp.noise_multiplier, dp.sampling_probability, dp.steps)
    use = ChargeContext(
        run_id=f"alone-{session.identity[:32]}",
        round=1,
        asked_by=session.keys.name,
        task="+".join(session.recipe.tasks)[:60],
        base_digest=session.model.base.digest,
        data_fingerprint="-".join(value[:16] for value in session.fingerprints().values())[:60],
        population=len(rows),
        delta=delta,
        clipping_norm=dp.clipping_norm,
    )
    limit = account.limits.limit if account.limits else None
    account.ledger.check(event, use, limit)
    session.begin()
    reservation = account.ledger.reserve(event, use, limit)
    watch = _Watcher(session, rows, plan) if session.job.observers else None
    stats = train(session.model, rows, plan, SystemNoise(), watch=watch)
    account.ledger.settle(reservation, plan.steps)
    guarantee = PrivacyGuarantee(
        epsilon=account.ledger.epsilon(delta, use.run_id),
        delta=delta,
        noise_multiplier=dp.noise_multiplier,
        clipping_norm=dp.clipping_norm,
        sampling_probability=dp.sampling_probability,
        steps=dp.steps,
        unit="record",
        adjacency="add-or-remove-one",
        accountant="PLD",
        ledger_epsilon=account.ledger.epsilon(delta),
        unprotected_before=_unprotected_before(session),
        does_not_cover=tuple(_uncovered(session)),
    )
    return _train_metrics(stats), guarantee


_NEVER_COVERED = (
    "the figures on the test rows",
    "the power of two at or below the number of rows: sampling rate and steps follow from it, and so do divisor and "
    "delta where the institution declares none",
)


def _unprotected_before(session: Session) -> bool:
    """Whether the training began from what private rows had made without differential privacy."""
    if read_provenance(session.recipe.base_model).private_text:
        return True
    if session.job.previous is None:
        return False
    return unprotected(read_manifest(session.job.previous.adapter)[2])


def _uncovered(session: Session) -> list[str]:
    """What the adapter or its card tells that no figure of this training speaks of."""
    found = []
    if session.job.previous is not None:
        spent = read_manifest(session.job.previous.adapter)[2].get("privacy")
        how = f"epsilon {spent['epsilon']:.3f} at delta {spent['delta']:g}" if spent else "no privacy"
        found.append(f"the rows of the adapter that was continued, which was trained with {how}")
    if read_provenance(session.recipe.base_model).private_text:
        found.append("the private text that the base model was made from")
    return [*found, *_NEVER_COVERED]


def _plan(
    session: Session, choice: PrivacyOptions, delta: float, records: int, limits: InstitutionSettings | None
) -> DpTrainingPlan:
    rate = session.settings.sampling_rate
    batch = rate * ((limits.declared_units if limits else None) or power_of_two_at_most(records))
    if rate * records < 1:
        raise DataError(f"privacy: {records} training rows are too few: a step would draw less than one")
    steps = max(1, math.ceil(session.settings.epochs / rate))
    if choice.level is not None:
        noise, clip = LEVELS[choice.level]
    else:
        noise, clip = calibrate(choice.epsilon or 0.0, delta, rate, steps), session.settings.clipping_norm
    if limits is not None and noise < limits.min_noise_multiplier:
        raise ConfigurationError(
            f"privacy: noise {noise:g} is below this institution's limits.min_noise_multiplier "
            f"{limits.min_noise_multiplier:g}: ask for a smaller epsilon"
        )
    return DpTrainingPlan(
        steps=steps,
        sampling_probability=rate,
        learning_rate=session.settings.learning_rate,
        head_learning_rate=session.settings.head_learning_rate,
        optimizer=session.settings.optimizer,
        max_batch_tokens=max(session.job.training.max_batch_tokens, session.recipe.max_tokens),
        dp=DpSettings(noise, clip, rate, steps, expected_batch_size=batch),
        seed=session.job.seed,
    )


def _delta(choice: PrivacyOptions, limits: InstitutionSettings | None, records: int) -> float:
    """The one asked for, the institution's, or the largest power of ten at most a tenth of one over the rows."""
    delta = choice.delta or (limits.delta if limits else None) or 10.0 ** -math.ceil(math.log10(10 * records))
    if delta >= 1 / records:
        raise ConfigurationError(f"delta is {delta:g}: it must be below one over the {records} training rows")
    if limits is not None and limits.delta is not None and delta > limits.delta:
        raise ConfigurationError(f"delta is {delta:g}: this institution's limits.delta is {limits.delta:g}: use that")
    return delta


class _Watcher:
    """Tells the observers, who stay inside the institution, what each step came to."""

    def __init__(self, session: Session, rows: TokenizedSet, plan: DpTrainingPlan) -> None:
        self._observers, self._plan, self._lengths = session.job.observers, plan, rows.lengths
        self._trained = list(session.model.trainable().values())
        self._before = [parameter.detach().clone() for parameter in self._trained]
        self._step, self._started = 0, time.monotonic()

    def __call__(self, drawn: NDArray[np.int64], loss: float) -> None:
        self._step += 1
        moved = torch.stack([(p.detach() - b).norm() for p, b in zip(self._trained, self._before, strict=True)])
        self._before = [parameter.detach().clone() for parameter in self._trained]
        event = StepEvent(
            step=self._step,
            steps=self._plan.steps,
            epoch=1 + math.floor((self._step - 1) * self._plan.sampling_probability),
            loss=loss,
            learning_rate=self._plan.learning_rate,
            gradient_norm=None,
            update_norm=float(moved.norm()),
            examples=len(drawn),
            tokens=int(self._lengths[drawn].sum()),
            seconds=time.monotonic() - self._started,
        )
        tell_step(self._observers, event)


def _train_metrics(stats: DpTrainingStats) -> dict[str, float]:
    """Private and un-noised, like all of `Outcome.train_metrics`: for the institution's own eyes."""
    tail = max(1, len(stats.loss) // 10)
    return {
        "loss": sum(stats.loss[-tail:]) / tail,
        "steps": stats.steps,
        "clip_fraction": sum(stats.clip_fraction) / len(stats.clip_fraction),
        "training_seconds": round(stats.seconds, 2),
    }

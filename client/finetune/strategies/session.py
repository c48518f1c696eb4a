"""What every strategy does around its training: check the job, open its directory, build the model, keep the result."""

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from client.finetune.data import hold_out, remove_test_rows, validate_split
from client.finetune.job import FineTuningJob, TaskData
from client.finetune.options.defaults import Defaults
from client.finetune.options.memory import MemoryEstimate, estimate_memory, refuse_beyond
from client.finetune.options.resolve import resolve_settings
from client.finetune.result import FineTuningResult, PrivacyGuarantee
from client.finetune.strategies.account import charge_without_privacy, check_job
from client.finetune.strategies.output_directory import claim, identity_of, keys_of, refuse_another
from client.finetune.training.loop import History, LoopPlan
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest, build, load_adapter, write_manifest
from common.base_models.device import select_device
from common.base_models.resolve import resolve_base
from common.data.datasets import Dataset
from common.errors import CheckpointError
from common.evaluation.task_metrics import selection_metric
from common.files import write_atomic
from common.identity.keys import PrivateKeys

__all__ = ["Session", "SplitData", "loop_plan", "open_session", "prepare_session", "train_metrics"]


@dataclass(frozen=True)
class SplitData:
    """A task's rows, parted: `validation` is None where too few rows could be held out. `dropped` were in the test."""

    data: TaskData
    train: Dataset
    validation: Dataset | None
    dropped: int

    @property
    def metric(self) -> str:
        """The figure that its epochs are judged by."""
        return selection_metric(self.data.task, self.data.train.labels)


@dataclass(frozen=True)
class Session:
    """A checked job with its directory open and its model built."""

    job: FineTuningJob
    identity: str
    keys: PrivateKeys
    settings: Defaults
    recipe: Manifest
    parts: tuple[SplitData, ...]
    model: AdaptedModel
    started: float

    @property
    def done(self) -> FineTuningResult | None:
        """What came of it, where it was finished before."""
        path = self.job.out / "result.json"
        if not path.exists():
            return None
        try:
            return FineTuningResult.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{path}: damaged: delete it to train again") from None

    @property
    def hours_left(self) -> float | None:
        """Of the job's hours, since it was opened; None without a budget."""
        most = self.job.max_hours
        return None if most is None else most - (time.monotonic() - self.started) / 3600

    @property
    def state(self) -> Path:
        """Where a training in progress is kept."""
        return self.job.out / "state.pt"

    @property
    def checkpoints(self) -> Path:
        """The same, of a training that TRL carries out: a directory."""
        return self.job.out / "checkpoints"

    def begin(self) -> None:
        """Make the directory this job's, if it is not yet: from here on something is written."""
        claim(self.job.out, self.identity, self.keys)

    def fingerprints(self) -> dict[str, str]:
        """Keyed, so that nobody else can test whether a guessed row is in the data."""
        return {p.data.task.name: p.data.train.fingerprint(self.keys.fingerprint_key()) for p in self.parts}

    def finish(
        self,
        metrics: Mapping[str, Any],
        train_metrics: Mapping[str, float],
        privacy: PrivacyGuarantee | None = None,
    ) -> FineTuningResult:
        """Save the adapter and what is known of it, and put the training's state away."""
        job, model = self.job, self.model
        outcome = FineTuningResult(
            adapter=job.out / "adapter",
            base_model=self.recipe.base_model,
            strategy=job.strategy,
            tasks=tuple(self.recipe.tasks),
            method=self.settings.method,
            settings={**asdict(self.settings), "rows": {p.data.task.name: _sizes(p) for p in self.parts}},
            train_metrics=dict(train_metrics),
            measured=dict(metrics),
            trainable_parameters=model.parameters_trained,
            total_parameters=model.parameters_total,
            parameter_efficiency=model.parameters_trained / model.parameters_total,
            seconds=round(time.monotonic() - self.started, 2),
            peak_memory_bytes=_peak_memory(model.base.device),
            privacy=privacy,
        )
        facts = {
            "strategy": job.strategy,
            "metrics": outcome.measured,
            "data": self.fingerprints(),
            "privacy": None if privacy is None else privacy.to_json(),
        }
        description = write_manifest(self.recipe, model.base.digest, facts)
        model.save_pretrained(outcome.adapter, _card(self, outcome), {"fedfin.json": description})
        write_atomic(job.out / "result.json", (json.dumps(outcome.to_json(), indent=2) + "\n").encode(), 0o600)
        self.state.unlink(missing_ok=True)
        return outcome


def open_session(job: FineTuningJob) -> Session:
    """Check everything that can be checked, then build the model. Writes nothing that a wrong job would leave behind.

    Raises:
        FedfinError: one line naming what is wrong.
    """
    started = time.monotonic()
    check_job(job)
    parts, settings, recipe = prepare_session(job)
    keys = keys_of(job)
    identity = identity_of(job, recipe, settings, keys)
    refuse_another(job.out, identity)
    device = select_device(job.device)
    model = build(recipe, device) if job.previous is None else load_adapter(job.previous.adapter, device)[0]
    if job.training.gradient_checkpointing:
        model.recompute()
    session = Session(job, identity, keys, settings, recipe, parts, model, started)
    if job.privacy is None and job.institution is not None and session.done is None:
        charge_without_privacy(session)
    elif job.privacy is None:  # a private one is first held against its limits
        session.begin()
    return session


def prepare_session(job: FineTuningJob) -> tuple[tuple[SplitData, ...], Defaults, Manifest]:
    """The job's rows, parted, and every setting; nothing is loaded or written.

    Raises:
        FedfinError: one line naming what is wrong.
    """
    parts = tuple(_split(job, data) for data in job.data)
    settings, recipe = resolve_settings(job, sum(len(p.train) for p in parts))
    select_device(job.device)
    if job.max_memory_gb is not None:
        refuse_beyond(_need(job, settings, recipe), job.max_memory_gb)
    return parts, settings, recipe


def _need(job: FineTuningJob, settings: Defaults, recipe: Manifest) -> MemoryEstimate:
    """Of several tasks, that of the one which needs most: a minibatch computes one after another."""
    training, name = job.training, recipe.base_model
    path, tokens, most = resolve_base(name), recipe.max_tokens, training.max_batch_tokens
    again = training.gradient_checkpointing
    needs = [estimate_memory(name, path, kind, settings, tokens, most, again) for kind in recipe.kinds]
    return max(needs, key=lambda need: need.total)


def loop_plan(session: Session, metric: str) -> LoopPlan:
    """How `loop.fit` is to train it."""
    chosen = {
        name: getattr(session.settings, name)
        for name in LoopPlan.__dataclass_fields__
        if hasattr(session.settings, name)
    }
    training = session.job.training
    return LoopPlan(
        **chosen,
        patience=training.patience,
        max_batch_tokens=max(training.max_batch_tokens, session.recipe.max_tokens),
        precision=training.precision,
        metric=metric,
        seed=session.job.seed,
        identity=session.identity,
        max_hours=session.hours_left,
    )


def train_metrics(history: History) -> dict[str, float]:
    """What `Outcome.train_metrics` says of a training."""
    best = history.epochs[history.best_epoch - 1]
    hours = {} if history.time is None else {**history.time.figures(), "out_of_hours": float(history.out_of_hours)}
    return {
        "loss": best.train_loss,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "steps": history.steps,
        "training_seconds": round(history.seconds, 2),
        **{f"validation_{name}": value for name, value in best.metrics.items()},
        **hours,
    }


def _split(job: FineTuningJob, data: TaskData) -> SplitData:
    validate_split(data.train, data.test)
    train, dropped = remove_test_rows(data.train, data.test)
    validate_split(train, data.test)
    # Under differential privacy no private row may choose the epoch: all of them train.
    share = 0.0 if job.privacy is not None else job.training.validation
    train, validation = hold_out(train, share, job.seed)
    return SplitData(data, train, validation, dropped)


def _sizes(part: SplitData) -> dict[str, int]:
    held = len(part.validation) if part.validation else 0
    return {"train": len(part.train), "validation": held, "test": len(part.data.test), "left_out": part.dropped}


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _card(session: Session, outcome: FineTuningResult) -> dict[str, str]:
    def said(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {said(inner)}" for name, inner in value.items())
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    labels = {name: ", ".join(found) for name, found in session.recipe.tasks.items()}
    privacy = outcome.privacy
    return {
        "Task": "; ".join(f"{name}: {found}" if found else name for name, found in labels.items()),
        "Trained by": f"fedfin, alone, strategy {outcome.strategy}, method {outcome.method}",
        "On the test rows": said(outcome.measured),
        "Data fingerprint": ", ".join(f"{value[:16]} (keyed)" for value in session.fingerprints().values()),
        "Privacy": "none: trained without differential privacy"
        if privacy is None
        else f"epsilon {privacy.epsilon:.3f} at delta {privacy.delta:g} for one record added or removed (PLD)"
        + "".join(f"; not covered: {what}" for what in privacy.does_not_cover),
    }

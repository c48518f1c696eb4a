"""What every strategy does around its training: check the job, open its directory, build the model, keep the result.

The directory of a job: `job.json` (what it is), `keys/` and `ledger.jsonl` (where no institution keeps them),
`state.pt` (while it trains), `adapter/`, `result.json`.
"""

import hashlib
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from client.finetune import rows
from client.finetune.defaults import Defaults, defaults
from client.finetune.job import Job, Outcome, TaskData
from client.finetune.loop import History, LoopPlan
from client.home import Home
from common.adapters import AdaptedModel
from common.base_files import resolve_base
from common.data import Dataset
from common.errors import CheckpointError, ConfigurationError
from common.files import write_atomic
from common.keys import Keys
from common.recipe import Recipe, build, write_description
from common.tasks import Head
from common.wire import canonical

__all__ = ["Session", "SplitData", "loop_plan", "open_session", "train_metrics"]

_ALONE = "alone"


@dataclass(frozen=True)
class SplitData:
    """A task's rows, parted: `validation` is None where too few rows could be held out. `dropped` were in the test."""

    data: TaskData
    train: Dataset
    validation: Dataset | None
    dropped: int


@dataclass(frozen=True)
class Session:
    """A checked job with its directory open and its model built."""

    job: Job
    identity: str
    keys: Keys
    settings: Defaults
    recipe: Recipe
    parts: tuple[SplitData, ...]
    model: AdaptedModel
    started: float

    @property
    def done(self) -> Outcome | None:
        """What came of it, where it was finished before."""
        path = self.job.out / "result.json"
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text())
            return Outcome(**{**values, "adapter": Path(values["adapter"]), "tasks": tuple(values["tasks"])})
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(f"{path}: damaged: delete it to train again") from None

    @property
    def state(self) -> Path:
        """Where a training in progress is kept."""
        return self.job.out / "state.pt"

    def fingerprints(self) -> dict[str, str]:
        """Keyed, so that nobody else can test whether a guessed row is in the data."""
        return {p.data.task.name: p.data.train.fingerprint(self.keys.fingerprint_key()) for p in self.parts}

    def finish(
        self,
        metrics: Mapping[str, Any],
        train_metrics: Mapping[str, float],
        privacy: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Save the adapter and what is known of it, and put the training's state away."""
        job, model = self.job, self.model
        outcome = Outcome(
            adapter=job.out / "adapter",
            base_model=job.base_model,
            strategy=job.strategy,
            tasks=tuple(self.recipe.tasks),
            method=self.settings.method,
            settings={**asdict(self.settings), "rows": {p.data.task.name: _sizes(p) for p in self.parts}},
            train_metrics=dict(train_metrics),
            metrics=dict(metrics),
            trainable_parameters=model.parameters_trained,
            total_parameters=model.parameters_total,
            parameter_efficiency=model.parameters_trained / model.parameters_total,
            seconds=round(time.monotonic() - self.started, 2),
            peak_memory_bytes=_peak_memory(model.base.device),
            privacy=privacy,
        )
        facts = {"strategy": job.strategy, "metrics": outcome.metrics, "data": self.fingerprints(), "privacy": privacy}
        description = write_description(self.recipe, model.base.digest, facts)
        model.save_pretrained(outcome.adapter, _card(self, outcome), {"fedfin.json": description})
        write_atomic(job.out / "result.json", (json.dumps(outcome.to_json(), indent=2) + "\n").encode())
        self.state.unlink(missing_ok=True)
        return outcome


def open_session(job: Job) -> Session:
    """Check everything that can be checked, then build the model. Writes nothing that a wrong job would leave behind.

    Raises:
        FedfinError: one line naming what is wrong.
    """
    started = time.monotonic()
    parts = tuple(_split(job, data) for data in job.data)
    path = resolve_base(job.base_model)
    config = transformers.AutoConfig.from_pretrained(path)
    hidden = int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.dim)
    heads = [p.data.task.head for p in parts]
    head = Head.TOKEN if Head.TOKEN in heads else heads[0]
    settings = defaults(job.adapter, job.training, head, hidden, sum(len(p.train) for p in parts))
    recipe = Recipe(
        base_model=job.base_model,
        pooling=job.pooling,
        max_tokens=job.max_tokens,
        tasks={p.data.task.name: p.data.train.labels for p in parts},
        method=settings.method,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        target_modules=settings.target_modules,
        layers=settings.layers,
        train="AB",
        virtual_tokens=settings.virtual_tokens,
        seed=job.seed,
    )
    keys = _keys(job)
    identity = _identity(job, recipe, settings, keys)
    _refuse_another(job.out, identity)
    model = build(recipe, _device(job.device))
    _claim(job.out, identity, keys)
    return Session(job, identity, keys, settings, recipe, parts, model, started)


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
        max_batch_tokens=max(training.max_batch_tokens, session.job.max_tokens),
        precision=training.precision,
        metric=metric,
        seed=session.job.seed,
        identity=session.identity,
    )


def train_metrics(history: History) -> dict[str, float]:
    """What `Outcome.train_metrics` says of a training."""
    best = history.epochs[history.best_epoch - 1]
    return {
        "loss": best.train_loss,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "steps": history.steps,
        "training_seconds": round(history.seconds, 2),
        **{f"validation_{name}": value for name, value in best.metrics.items()},
    }


def _split(job: Job, data: TaskData) -> SplitData:
    rows.check(data.train, data.test)
    train, dropped = rows.without(data.train, data.test)
    rows.check(train, data.test)
    # Under differential privacy no private row may choose the epoch: all of them train.
    share = 0.0 if job.privacy is not None else job.training.validation
    train, validation = rows.hold_out(train, share, job.seed)
    return SplitData(data, train, validation, dropped)


def _keys(job: Job) -> Keys:
    """The institution's, or the output directory's own."""
    if job.privacy is not None and job.privacy.institution is not None:
        return Home(job.privacy.institution).keys()
    directory = job.out / "keys"
    return Keys.load(directory) if directory.exists() else Keys.generate(_ALONE)


def _identity(job: Job, recipe: Recipe, settings: Defaults, keys: Keys) -> str:
    """A digest of all that decides what comes out, keyed like the data's fingerprints."""
    key = keys.fingerprint_key()
    data = [[d.task.name, d.train.fingerprint(key), d.test.fingerprint(key)] for d in job.data]
    if job.previous is not None:
        old = job.previous
        data.append([str(old.adapter), old.train.fingerprint(key) if old.train else "", old.test.fingerprint(key)])
    values = {
        "strategy": job.strategy,
        "data": data,
        "recipe": asdict(recipe),
        "settings": asdict(settings),
        "training": asdict(job.training),
        "privacy": None if job.privacy is None else {**asdict(job.privacy), "institution": None},
    }
    return hashlib.sha256(canonical(values)).hexdigest()


def _refuse_another(out: Path, identity: str) -> None:
    """Hold the directory to the job it began with."""
    path = out / "job.json"
    try:
        known = json.loads(path.read_text())["identity"] if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: damaged: choose another output directory") from None
    if known is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: it is not an empty directory: choose another output directory")
    if known is not None and known != identity:
        raise CheckpointError(
            f"{out}: it holds another training (other settings or data): choose another output directory"
        )


def _claim(out: Path, identity: str, keys: Keys) -> None:
    """Begin the directory: from here on it belongs to this job."""
    try:
        if keys.name == _ALONE and not (out / "keys").exists():
            keys.save(out / "keys")
        if not (out / "job.json").exists():
            write_atomic(out / "job.json", (json.dumps({"identity": identity}) + "\n").encode())
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror}): choose another directory") from None


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"device is {wanted}: this machine has no usable CUDA device: use cpu or auto")
    return wanted


def _sizes(part: SplitData) -> dict[str, int]:
    held = len(part.validation) if part.validation else 0
    return {"train": len(part.train), "validation": held, "test": len(part.data.test), "left_out": part.dropped}


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _card(session: Session, outcome: Outcome) -> dict[str, str]:
    def said(values: Mapping[str, Any]) -> str:
        return ", ".join(
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name}: {said(value)}"
            for name, value in values.items()
        )

    labels = {name: ", ".join(found) for name, found in session.recipe.tasks.items()}
    privacy = outcome.privacy
    return {
        "Task": "; ".join(f"{name}: {found}" if found else name for name, found in labels.items()),
        "Trained by": f"fedfin, alone, strategy {outcome.strategy}, method {outcome.method}",
        "On the test rows": said(outcome.metrics),
        "Data fingerprint": ", ".join(f"{value[:16]} (keyed)" for value in session.fingerprints().values()),
        "Privacy": "none: trained without differential privacy"
        if privacy is None
        else f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g} for one record added or removed (PLD)",
    }

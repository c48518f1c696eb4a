"""Open a job: check it, divide its rows, resolve its settings, claim its directory and build its model."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client.finetune.job import FineTuningJob
from client.finetune.options.defaults import ResolvedSettings
from client.finetune.options.memory import MemoryEstimate, estimate_memory, refuse_beyond
from client.finetune.options.resolve import ResolvedJob, resolve_settings
from client.finetune.result import FineTuningResult
from client.finetune.strategies.account import charge_without_privacy, check_job
from client.finetune.strategies.output_directory import claim, identity_of, keys_of, refuse_another
from client.finetune.strategies.split import SplitData, split_rows
from client.inspection.look import look_at_rows
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest
from common.adapters.restore import build, load_adapter
from common.base_models.check import check_base_model
from common.base_models.device import select_device
from common.data.datasets import Dataset
from common.errors import CheckpointError
from common.identity.keys import PrivateKeys

__all__ = ["Session", "open_session", "prepare_session"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A checked job with its model.

    Attributes:
        resolved: The job with every setting.
        identity: Digest of everything that the result depends on.
        keys: Of the institution, or of the output directory.
        parts: The rows of each task, divided.
        model: The model to train.
        inspection: Findings about the rows, for the institution's own record. None if the job was finished before.
        started: Reading of the monotonic clock, in seconds, when the job was opened.
    """

    resolved: ResolvedJob
    identity: str
    keys: PrivateKeys
    parts: tuple[SplitData, ...]
    model: AdaptedModel
    started: float
    inspection: Mapping[str, Any] | None = None

    @property
    def job(self) -> FineTuningJob:
        """The job as its caller gave it."""
        return self.resolved.job

    @property
    def settings(self) -> ResolvedSettings:
        """Every setting of the training."""
        return self.resolved.settings

    @property
    def manifest(self) -> Manifest:
        """The model and its adapter, as `fedfin.json` describes them."""
        return self.resolved.manifest

    @property
    def metric(self) -> str:
        """Name of the validation metric that chooses the epoch. Of several tasks, the mean of their metrics."""
        return self.parts[0].metric if len(self.parts) == 1 else "mean"

    @property
    def done(self) -> FineTuningResult | None:
        """The result, if the job was finished before.

        Raises:
            CheckpointError: `result.json` is damaged.
        """
        path = self.job.out / "result.json"
        if not path.exists():
            return None
        try:
            return FineTuningResult.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{path}: damaged: delete it to train again") from None

    @property
    def hours_left(self) -> float | None:
        """Hours that are left of `max_hours`. None if the job has no limit."""
        most = self.job.max_hours
        return None if most is None else most - (time.monotonic() - self.started) / 3600

    @property
    def state(self) -> Path:
        """File with the state of a training in progress."""
        return self.job.out / "state.pt"

    @property
    def checkpoints(self) -> Path:
        """Directory with the state of a training in progress that TRL carries out."""
        return self.job.out / "checkpoints"

    def begin(self) -> None:
        """Claim the output directory for this job. Nothing is written before."""
        claim(self.job.out, self.identity, self.keys)

    def fingerprints(self) -> dict[str, str]:
        """Return a keyed digest of each task's rows. Only the key's owner can test whether they hold a row."""
        return {p.data.task.name: p.data.train.fingerprint(self.keys.fingerprint_key()) for p in self.parts}


def open_session(job: FineTuningJob, others: Mapping[str, Dataset] | None = None) -> Session:
    """Check everything that can be checked, then build the model and look at the rows. A wrong job leaves nothing.

    Args:
        job: The job.
        others: More rows that the training reads, by name, to look at.

    Raises:
        FedfinError: One line that names the wrong input.
    """
    started = time.monotonic()
    check_job(job)
    parts, resolved = prepare_session(job)
    keys = keys_of(job)
    identity = identity_of(resolved, keys)
    refuse_another(job.out, identity)
    device = select_device(job.device)
    model = build(resolved.manifest, device) if job.previous is None else load_adapter(job.previous.adapter, device)[0]
    if resolved.settings.gradient_checkpointing:
        model.recompute()
    session = Session(resolved, identity, keys, parts, model, started)
    if session.done is None:
        session = replace(session, inspection=_look(session, others or {}))
    if job.privacy is None and job.institution is not None and session.done is None:
        charge_without_privacy(session)
    elif job.privacy is None:  # a private job is first compared with its limits
        session.begin()
    return session


def _look(session: Session, others: Mapping[str, Dataset]) -> Mapping[str, Any] | None:
    """Look at the rows as the caller gave them. Nothing of the training depends on the findings."""
    groups = []
    for part in session.parts:
        prefix = f"{part.data.task.name} " if len(session.parts) > 1 else ""
        groups.append({f"{prefix}train": part.data.train, f"{prefix}test": part.data.test, **others})
    base = session.model.base
    return look_at_rows(groups, log, base.tokenizer, base.max_tokens)


def prepare_session(job: FineTuningJob) -> tuple[tuple[SplitData, ...], ResolvedJob]:
    """Divide the rows and resolve the settings. No weights are loaded and nothing is written.

    Raises:
        FedfinError: One line that names the wrong input.
    """
    parts = tuple(split_rows(job, data) for data in job.data)
    resolved = resolve_settings(job, sum(len(part.train) for part in parts))
    select_device(job.device)
    if job.max_memory_gb is not None:
        refuse_beyond(_largest_need(resolved), job.max_memory_gb)
    check_base_model(resolved.manifest.base_model, resolved.manifest.kinds[0].head)
    return parts, resolved


def _largest_need(resolved: ResolvedJob) -> MemoryEstimate:
    """Of several tasks the largest estimate, because a minibatch computes one task after another."""
    name, config, settings = resolved.manifest.base_model, resolved.base_config, resolved.settings
    needs = [estimate_memory(name, config, task, settings) for task in resolved.manifest.kinds]
    return max(needs, key=lambda need: need.total)

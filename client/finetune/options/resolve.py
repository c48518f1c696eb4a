"""Resolve a job: every setting that it leaves open, and the model that it trains."""

from dataclasses import dataclass, field
from typing import Any

from client.finetune.job import FineTuningJob
from client.finetune.options.defaults import BaseFacts, ResolvedSettings, fill_in
from common.adapters.manifest import Manifest, read_manifest
from common.base_models.architecture import hidden_size, max_positions
from common.base_models.check import check_configuration
from common.errors import ConfigurationError, DataError

__all__ = ["ResolvedJob", "resolve_settings"]


@dataclass(frozen=True)
class ResolvedJob:
    """A job after defaults.

    Attributes:
        job: The job as its caller gave it.
        settings: Every setting of the training.
        manifest: The model to build, or the one to continue.
        base_config: The base model's configuration, as transformers reads it.
    """

    job: FineTuningJob
    settings: ResolvedSettings
    manifest: Manifest
    base_config: Any = field(compare=False, repr=False)


def resolve_settings(job: FineTuningJob, rows: int) -> ResolvedJob:
    """Resolve `job` for a number of training rows. The base model's configuration is read once, its weights are not.

    Args:
        rows: Training rows of all tasks, without those that are held out.

    Raises:
        ModelError: The base model, or the adapter to be continued, is absent or cannot be read.
        ConfigurationError, DataError: They do not fit the tasks or labels of the job.
    """
    previous = None if job.previous is None else _previous(job)
    name = job.base_model if previous is None else previous.base_model
    tasks = [data.task for data in job.data]
    head = next((task.head for task in tasks if task.head.labels_words), tasks[0].head)
    # The tokenizer is checked after the estimate of memory, because loading it takes some.
    _, config = check_configuration(name, head)
    positions = max_positions(config)
    settings = fill_in(
        job.adapter if previous is None else previous.adapter,
        job.training,
        tasks,
        BaseFacts(hidden_size(config), positions),
        rows,
        max_tokens=job.max_tokens if previous is None else previous.max_tokens,
        private=job.privacy is not None,
        fresh_head=job.pooling == "mean" and previous is None,
    )
    most = positions - settings.adapter.virtual_tokens
    if settings.max_tokens > most:
        raise ConfigurationError(
            f"max_tokens is {settings.max_tokens}: base model {name} reads at most {most}: use that or less"
        )
    return ResolvedJob(job, settings, previous or _manifest(job, settings), config)


def _manifest(job: FineTuningJob, settings: ResolvedSettings) -> Manifest:
    return Manifest(
        base_model=job.base_model,
        pooling=job.pooling,
        max_tokens=settings.max_tokens,
        tasks={data.task.name: data.train.labels for data in job.data},
        adapter=settings.adapter,
        seed=job.seed,
        answers=job.data[0].train.answers,
    )


def _previous(job: FineTuningJob) -> Manifest:
    """Return the manifest of the adapter to continue. It must serve the job's task, with the job's labels."""
    if job.previous is None:
        raise ConfigurationError("incremental: name the adapter that it continues")
    manifest, _, _ = read_manifest(job.previous.adapter)
    [data] = job.data
    if set(manifest.tasks) != {data.task.name}:
        raise ConfigurationError(
            f"{job.previous.adapter}: its adapter serves {', '.join(manifest.tasks)}: give rows of that one task"
        )
    for rows in (data.train, data.test, job.previous.test, job.previous.train):
        if rows is not None and rows.labels != manifest.tasks[data.task.name]:
            raise DataError(f"{rows.name}: its labels are not those of {job.previous.adapter}: read it with those")
    return manifest

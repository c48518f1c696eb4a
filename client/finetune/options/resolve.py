"""From a job to every figure of it: the settings left open, and the recipe of its model."""

from typing import Any

from client.finetune.job import FineTuningJob
from client.finetune.options.defaults import Defaults, defaults
from common.adapters.manifest import Manifest, read_manifest
from common.base_models.architecture import generator_class, hidden_size, max_positions, read_config
from common.base_models.resolve import resolve_base
from common.errors import ConfigurationError, DataError
from common.tasks import Head

__all__ = ["resolve_settings"]


def resolve_settings(job: FineTuningJob, records: int) -> tuple[Defaults, Manifest]:
    """The job's settings for `records` training rows, and the model to build, which may be one to be continued.

    Raises:
        ModelError: the base model, or the adapter to be continued, is not there or cannot be read.
        ConfigurationError, DataError: they do not go with the job's tasks or labels.
    """
    previous = None if job.previous is None else _previous(job)
    name = job.base_model if previous is None else previous.base_model
    config = read_config(name, resolve_base(name))
    heads = [data.task.head for data in job.data]
    head = next((head for head in heads if head.labels_words), heads[0])
    if head.writes_text:
        generator_class(name, config)  # says which models can write, where this one cannot
    width = hidden_size(config)
    private, fresh_head = job.privacy is not None, job.pooling == "mean" and previous is None
    settings = defaults(job.adapter, job.training, head, width, records, private, fresh_head)
    return settings, previous or _recipe(job, settings, _max_tokens(job, settings, head, config))


def _max_tokens(job: FineTuningJob, settings: Defaults, head: Head, config: Any) -> int:
    """At which texts are cut: by default 256, or 512 where words carry labels; never more than the model can place."""
    prompt = settings.virtual_tokens if settings.method in ("prefix_tuning", "p_tuning") else 0
    most = max_positions(config) - prompt
    if job.max_tokens is None:
        return min(512 if head.labels_words else 256, most)
    if job.max_tokens > most:
        raise ConfigurationError(f"max_tokens is {job.max_tokens}: base model {job.base_model} reads at most {most}")
    return job.max_tokens


def _recipe(job: FineTuningJob, settings: Defaults, max_tokens: int) -> Manifest:
    return Manifest(
        base_model=job.base_model,
        pooling=job.pooling,
        max_tokens=max_tokens,
        tasks={data.task.name: data.train.labels for data in job.data},
        method=settings.method,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        target_modules=settings.target_modules,
        layers=settings.layers,
        trained_factors=settings.trained_factors,
        virtual_tokens=settings.virtual_tokens,
        seed=job.seed,
    )


def _previous(job: FineTuningJob) -> Manifest:
    """The recipe of the adapter that is continued, which must do the job's task on the job's labels."""
    if job.previous is None:
        raise ConfigurationError("incremental: name the adapter that it continues")
    recipe, _, _ = read_manifest(job.previous.adapter)
    [data] = job.data
    if set(recipe.tasks) != {data.task.name}:
        raise ConfigurationError(
            f"{job.previous.adapter}: its adapter does {', '.join(recipe.tasks)}: continue it on rows of that one task"
        )
    for given in (data.train, data.test, job.previous.test, job.previous.train):
        if given is not None and given.labels != recipe.tasks[data.task.name]:
            raise DataError(f"{given.name}: its labels are not those of {job.previous.adapter}: read it with those")
    return recipe

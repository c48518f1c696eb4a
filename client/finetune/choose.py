"""From a job to every figure of it: the settings left open, and the recipe of its model."""

from typing import Any

import transformers

from client.finetune.defaults import Defaults, defaults
from client.finetune.job import Job
from common.base_files import resolve_base
from common.errors import ConfigurationError, DataError, ModelError
from common.recipe import Recipe, read_description
from common.tasks import Head

__all__ = ["choose"]


def choose(job: Job, records: int) -> tuple[Defaults, Recipe]:
    """The job's settings for `records` training rows, and the model to build, which may be one to be continued.

    Raises:
        ModelError: the base model, or the adapter to be continued, is not there or cannot be read.
        ConfigurationError, DataError: they do not go with the job's tasks or labels.
    """
    previous = None if job.previous is None else _previous(job)
    config = _config(job.base_model if previous is None else previous.base_model)
    heads = [data.task.head for data in job.data]
    head = Head.TOKEN if Head.TOKEN in heads else heads[0]
    width = int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.dim)
    settings = defaults(job.adapter, job.training, head, width, records, private=job.privacy is not None)
    return settings, previous or _recipe(job, settings, _max_tokens(job, settings, head, config))


def _config(base_model: str) -> Any:
    path = resolve_base(base_model)
    try:
        return transformers.AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"base model {base_model}: its config.json cannot be read: save the model again") from error


def _max_tokens(job: Job, settings: Defaults, head: Head, config: Any) -> int:
    """At which texts are cut: by default 256, or 512 where words carry labels; never more than the model can place."""
    places = getattr(config, "max_position_embeddings", None) or 131_072
    # RoBERTa and its kin count positions from the padding's number on.
    prompt = settings.virtual_tokens if settings.method in ("prefix_tuning", "p_tuning") else 0
    most = (
        places
        - prompt
        - (config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0)
    )
    if job.max_tokens is None:
        return int(min(512 if head is Head.TOKEN else 256, most))
    if job.max_tokens > most:
        raise ConfigurationError(f"max_tokens is {job.max_tokens}: base model {job.base_model} reads at most {most}")
    return job.max_tokens


def _recipe(job: Job, settings: Defaults, max_tokens: int) -> Recipe:
    return Recipe(
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
        train=settings.train,
        virtual_tokens=settings.virtual_tokens,
        seed=job.seed,
    )


def _previous(job: Job) -> Recipe:
    """The recipe of the adapter that is continued, which must do the job's task on the job's labels."""
    if job.previous is None:
        raise ConfigurationError("incremental: name the adapter that it continues")
    recipe, _, _ = read_description(job.previous.adapter)
    [data] = job.data
    if set(recipe.tasks) != {data.task.name}:
        raise ConfigurationError(
            f"{job.previous.adapter}: its adapter does {', '.join(recipe.tasks)}: continue it on rows of that one task"
        )
    for given in (data.train, data.test, job.previous.test, job.previous.train):
        if given is not None and given.labels != recipe.tasks[data.task.name]:
            raise DataError(f"{given.name}: its labels are not those of {job.previous.adapter}: read it with those")
    return recipe

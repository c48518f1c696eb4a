"""Fine-tuning alone: rows, a base model and options become a saved adapter with metrics and, if asked for, privacy.

One file of `strategies` trains one kind of job. Strategies do not import each other, except for `stages`, which runs
several in a row. The room never talks to a hub and never imports `client.federation`.

>>> from client.finetune import AdapterOptions, TrainingOptions
>>> AdapterOptions(rank=20).rank, TrainingOptions().epochs is None
(20, True)
"""

from dataclasses import replace

from client.finetune.job import (
    AdapterOptions,
    FineTuningJob,
    Previous,
    PrivacyOptions,
    TaskData,
    TrainingOptions,
)
from client.finetune.result import FineTuningResult
from common.errors import ConfigurationError

__all__ = [
    "AdapterOptions",
    "FineTuningJob",
    "FineTuningResult",
    "Previous",
    "PrivacyOptions",
    "TaskData",
    "TrainingOptions",
    "finetune",
]


def finetune(job: FineTuningJob) -> FineTuningResult:
    """Train the job's model, and leave adapter, card, result, `tracker.json` and `report.html` in `job.out`.

    Raises:
        FedfinError: One line that names the wrong input. Nothing was trained.
    """
    if not isinstance(job, FineTuningJob):
        raise ConfigurationError(f"finetune: the job is a {type(job).__name__}: give a FineTuningJob")
    # Imported when used: a command line that only describes a job starts without torch.
    from client.finetune.observing import Observation
    from client.finetune.options.memory import memory_limit
    from client.finetune.strategies import (
        continual_pretraining,
        distillation,
        domain_adversarial,
        incremental,
        multi_task,
        single_task,
    )

    plain = {"single_task": single_task.run, "incremental": incremental.run, "multi_task": multi_task.run}
    with (
        memory_limit(job.max_memory_gb, job.device),
        Observation(job.out, job.log_to, job.observers) as observation,
    ):
        job = replace(job, observers=observation.observers)
        match job:
            case continual_pretraining.AdaptationJob():
                result = continual_pretraining.run(job)
            case distillation.DistillationJob():
                result = distillation.run(job)
            case domain_adversarial.AdversarialJob():
                result = domain_adversarial.run(job)
            case _ if job.strategy not in plain:
                raise ConfigurationError(
                    f"strategy is {job.strategy}, which has a kind of job of its own: give that, or choose one of "
                    f"{', '.join(plain)}"
                )
            case _:
                result = plain[job.strategy](job)
        return observation.finish(result)

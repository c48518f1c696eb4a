"""Fine-tuning: one file a strategy, each `run(job) -> outcome`. Strategies do not import each other.

from client.finetune.job import FineTuningResult
from client.finetune import Job, finetune
outcome = finetune(Job(data=(TaskData(task("sentiment_analysis"), train, test),), out=Path("runs/sentiment")))
"""

from client.finetune.job import (
    AdapterOptions,
    FineTuningJob,
    Previous,
    PrivacyOptions,
    TaskData,
    TrainingOptions,
)
from client.finetune.result import FineTuningResult

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
    """Fine-tune, and leave adapter, card and results in `job.out`. See `Job` and `FineTuningResult`.

    Raises:
        FedfinError: one line naming the input that is wrong; nothing is trained then.
    """
    # Imported when used: a command line that only describes a job starts without torch.
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
    with memory_limit(job.max_memory_gb, job.device):
        match job:
            case continual_pretraining.AdaptationJob():
                return continual_pretraining.run(job)
            case distillation.DistillationJob():
                return distillation.run(job)
            case domain_adversarial.AdversarialJob():
                return domain_adversarial.run(job)
            case _:
                return plain[job.strategy](job)

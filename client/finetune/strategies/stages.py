"""Run several strategies in a row. Each starts from the result of the one before, and each is measured.

domain_pretraining (the corpus) -> intermediate_task (one task or several) -> target_task -> knowledge_distillation.
Every stage except the target is optional. `stages.json` records finished stages, and the same job continues after them.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from client.finetune.job import AdapterOptions, FineTuningJob, TaskData, TrainingOptions
from client.finetune.observing import Observation, copy_record
from client.finetune.options.memory import memory_limit
from client.finetune.result import FineTuningResult
from client.finetune.strategies import continual_pretraining, distillation, multi_task, single_task
from client.finetune.strategies.continual_pretraining import AdaptationJob
from client.finetune.strategies.distillation import DistillationJob
from client.finetune.strategies.domain_terms import TermList
from client.finetune.strategies.linear_probe import linear_probe
from client.finetune.strategies.output_directory import refuse_foreign
from client.finetune.strategies.session import prepare_session
from client.finetune.training.time_budget import TimeBudgetExceeded, describe_time_budget
from client.tracking.kinds import LogKind
from common.adapters.restore import load_adapter
from common.base_models.extend import write_merged_base
from common.errors import CheckpointError, ConfigurationError
from common.events import Observer, tell_stage
from common.files import replace_directory, write_json

__all__ = ["PUBLISHED", "STAGES", "Stage", "StagesJob", "run"]


_LETTERS_A_TOKEN = 5


@dataclass(frozen=True)
class Stage:
    """Epochs and learning rate of one stage. A rate of None takes the default of its strategy."""

    epochs: int
    learning_rate: float | None = None


PUBLISHED: Mapping[str, Stage] = {
    "domain_pretraining": Stage(2, 1e-5),
    "intermediate_task": Stage(3, 2e-5),
    "target_task": Stage(5, 3e-5),
    "knowledge_distillation": Stage(2, 1e-5),
}
"""A schedule for large models whose weights are all trained. With LoRA on a small encoder its rates do little."""

STAGES: Mapping[str, Stage] = {name: Stage(stage.epochs) for name, stage in PUBLISHED.items()}
"""The default: the same epochs, with the rates of `client.finetune.options.defaults`."""


@dataclass(frozen=True, kw_only=True)
class StagesJob:
    """A job of several stages. The same job with the same `out` continues after the last finished stage.

    Attributes:
        target: The task to train for.
        corpus, terms, general: Of `AdaptationJob`. Without a corpus, domain_pretraining is left out.
        intermediate: Tasks to train first, together if there are several. Without tasks, the stage is left out.
        student_blocks: Blocks of the distilled student. None leaves knowledge_distillation out.
        schedule: Epochs and learning rate of each stage.
        max_hours: Hours of all stages together. Remaining hours are divided among the remaining stages in proportion to
            the text that each has to process. Each stage ends in time. A last stage that does not fit is left out.
    """

    target: TaskData
    out: Path
    corpus: TaskData | None = None
    terms: TermList | None = None
    general: tuple[str, ...] | None = None
    intermediate: tuple[TaskData, ...] = ()
    student_blocks: int | None = None
    base_model: str = "minilm"
    max_tokens: int | None = None
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    schedule: Mapping[str, Stage] = field(default_factory=lambda: STAGES)
    seed: int = 0
    device: str = "auto"
    max_hours: float | None = None
    max_memory_gb: float | None = None
    log_to: LogKind | None = field(default=None, compare=False)
    observers: tuple[Observer, ...] = field(default=(), compare=False, repr=False)


def run(job: StagesJob) -> FineTuningResult:
    """Run the remaining stages. Return the better of target_task and knowledge_distillation by the validation metric.

    The metrics of the result include `stages`: metrics, seconds and share of trained parameters of each stage. Each
    stage leaves `tracker.json` and `report.html` in its directory. Those of the best last stage are copied to `out`.

    Raises:
        TimeBudgetExceeded: The hours are too few for the target task.
        CheckpointError: `out` holds other stages.
        FedfinError: One line that names the wrong input of a stage.
    """
    with memory_limit(job.max_memory_gb, job.device):
        return _Stages(job).run()


class _Stages:
    def __init__(self, job: StagesJob) -> None:
        self.job = job
        self.notes = job.out / "stages.json"
        self.history: list[dict[str, Any]] = self._read()
        self.end = None if job.max_hours is None else time.monotonic() + 3600 * job.max_hours
        self.work = self._work()
        self.base = job.base_model
        self.outcomes: dict[str, FineTuningResult] = {}
        self.observers = job.observers

    def run(self) -> FineTuningResult:
        job = self.job
        self._check()
        left_out = ""
        if job.corpus is not None:
            self._stage("domain_pretraining", partial(self._pretrain, job.corpus))
        if job.intermediate:
            self._stage("intermediate_task", self._intermediate)
        self._stage("target_task", self._target)
        if job.student_blocks is not None:
            try:
                self._stage("knowledge_distillation", self._distill)
            except TimeBudgetExceeded:
                left_out = f"{job.max_hours:g} hours were too few for knowledge_distillation: it was left out"
        return self._best(left_out)

    def _check(self) -> None:
        """Refuse, before the first stage, everything that a later stage would refuse."""
        job = self.job
        refuse_foreign(job.out, (*STAGES, self.notes.name, "adapter", "result.json"))
        prepare_session(FineTuningJob(**self._common(job.out, "target_task"), data=(job.target,)))
        if job.intermediate:
            prepare_session(self._intermediate_job(job.out, "intermediate_task"))
        if job.student_blocks is not None:
            if not job.target.task.head.labels_texts:
                raise ConfigurationError(f"student_blocks: {job.target.task.name} does not put a label on a text")
            distillation.refuse_student(job.base_model, job.student_blocks)

    def _work(self) -> dict[str, float]:
        """Return the characters that each stage has to process, in proportion to its share of the time."""
        job = self.job
        rows = {
            "domain_pretraining": [] if job.corpus is None else [job.corpus.train],
            "intermediate_task": [data.train for data in job.intermediate],
            "target_task": [job.target.train],
            "knowledge_distillation": [] if job.student_blocks is None else [job.target.train],
        }
        most = _LETTERS_A_TOKEN * (job.max_tokens or 256)
        return {
            name: job.schedule[name].epochs * sum(min(most, _letters(e)) for each in sets for e in each.examples)
            for name, sets in rows.items()
        }

    def _hours(self, name: str) -> float | None:
        """Return the share of a stage of the hours that are left."""
        if self.end is None:
            return None
        to_come = list(self.work)[list(self.work).index(name) :]
        left = max(1e-9, (self.end - time.monotonic()) / 3600)
        return left * self.work[name] / sum(self.work[each] for each in to_come)

    def _read(self) -> list[dict[str, Any]]:
        if not self.notes.exists():
            return []
        try:
            return list(json.loads(self.notes.read_text())["stages"])
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(f"{self.notes}: damaged: choose another output directory") from None

    def _stage(self, name: str, train: Any) -> None:
        """Train one stage, or read its result if it is finished. Record it before the next stage begins."""
        out = self.job.out / name
        try:
            with Observation(out, self.job.log_to, self.job.observers) as observation:
                self.observers = observation.observers
                tell_stage(self.job.observers, name)
                outcome, measured = train(out, name)
                outcome = observation.finish(outcome)
        except TimeBudgetExceeded as error:
            raise TimeBudgetExceeded(f"{name}: {error} (the same command then continues)") from None
        self.outcomes[name] = outcome
        if any(entry["stage"] == name for entry in self.history):
            return
        self.history.append(
            {
                "stage": name,
                "strategy": outcome.strategy,
                "metrics": outcome.measured,
                "validation": _validation(outcome),
                "target_probe": measured,
                "seconds": outcome.seconds,
                "hours": describe_time_budget(outcome.train_metrics),
                "trainable_parameters": outcome.trainable_parameters,
                "total_parameters": outcome.total_parameters,
                "parameter_efficiency": outcome.parameter_efficiency,
                "base_model": outcome.base_model,
                "adapter": str(outcome.adapter),
            }
        )
        write_json(self.notes, {"stages": self.history}, 0o600)

    def _pretrain(self, corpus: TaskData, out: Path, name: str) -> tuple[FineTuningResult, Any]:
        outcome = continual_pretraining.run(
            AdaptationJob(
                **self._common(out, name),
                data=(corpus,),
                strategy="continual_pretraining",
                terms=self.job.terms,
                general=self.job.general,
                probes=(self.job.target,) if self.job.target.task.head.labels_texts else (),
            )
        )
        self.base = outcome.base_model
        return outcome, outcome.measured["probes"].get(self.job.target.task.name)

    def _intermediate(self, out: Path, name: str) -> tuple[FineTuningResult, Any]:
        job = self._intermediate_job(out / "training", name)
        outcome = (multi_task if job.strategy == "multi_task" else single_task).run(job)
        base = (out / "base").resolve()
        if not base.is_dir():
            write_merged_base(load_adapter(outcome.adapter)[0], self.base, base, private=True)
        self.base = str(base)
        return outcome, self._probe()

    def _intermediate_job(self, out: Path, name: str) -> FineTuningJob:
        several = len(self.job.intermediate) > 1
        strategy: Literal["multi_task", "single_task"] = "multi_task" if several else "single_task"
        return FineTuningJob(**self._common(out, name), data=self.job.intermediate, strategy=strategy)

    def _target(self, out: Path, name: str) -> tuple[FineTuningResult, Any]:
        return single_task.run(FineTuningJob(**self._common(out, name), data=(self.job.target,))), None

    def _distill(self, out: Path, name: str) -> tuple[FineTuningResult, Any]:
        job = DistillationJob(
            **self._common(out, name),
            data=(self.job.target,),
            strategy="distillation",
            teacher=self.outcomes["target_task"].adapter,
            student_blocks=self.job.student_blocks,
        )
        return distillation.run(job), None

    def _common(self, out: Path, name: str) -> dict[str, Any]:
        job, stage = self.job, self.job.schedule[name]
        return {
            "out": out,
            "base_model": self.base,
            "max_tokens": job.max_tokens,
            "adapter": job.adapter,
            "training": TrainingOptions(epochs=stage.epochs, learning_rate=stage.learning_rate),
            "seed": job.seed,
            "device": job.device,
            "max_hours": self._hours(name),
            "max_memory_gb": job.max_memory_gb,
            "observers": self.observers,
        }

    def _probe(self) -> dict[str, float] | None:
        if not self.job.target.task.head.labels_texts:
            return None
        return linear_probe(self.base, self.job.target, self.job.max_tokens or 128)

    def _best(self, left_out: str) -> FineTuningResult:
        finals = [name for name in ("target_task", "knowledge_distillation") if name in self.outcomes]
        best = max(finals, key=lambda name: _validation(self.outcomes[name]) or 0.0)
        outcome = self.outcomes[best]
        warned = tuple(warning for each in self.outcomes.values() for warning in each.warnings)
        warnings = (*warned, *((left_out,) if left_out else ()))
        metrics = {
            **outcome.measured,
            "best": best,
            "stages": self.history,
            "total_seconds": round(sum(entry["seconds"] for entry in self.history), 2),
        }
        copy_record(self.job.out / best, self.job.out)
        outcome = replace(
            outcome,
            strategy="stages",
            measured=metrics,
            adapter=self._copied(outcome.adapter),
            warnings=warnings,
            report=self.job.out / "report.html" if outcome.report else None,
        )
        write_json(self.job.out / "result.json", outcome.to_json(), 0o600)
        return outcome

    def _copied(self, best: Path) -> Path:
        """Copy the best adapter to the place in which `predict` looks for one."""
        place = self.job.out / "adapter"
        with replace_directory(place) as draft:
            shutil.copytree(best, draft, dirs_exist_ok=True)
        return place


def _letters(example: object) -> int:
    return len(getattr(example, "text", "")) or sum(len(word) + 1 for word in getattr(example, "words", ()))


def _validation(outcome: FineTuningResult) -> float | None:
    """Return the metric on the held-out rows that chose the epoch."""
    name = outcome.settings.get("selection_metric", "weighted_f1")  # absent in a result of an earlier release
    return outcome.train_metrics.get(f"validation_{name}")

"""The result of a simulated run as typed values, read from the files that the run left."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from common.errors import CheckpointError
from common.evaluation.task_metrics import Metrics
from common.report.json_reader import read_json
from common.report.records import Baseline, ResultRecord, RoundRecord

__all__ = ["SimulationResult"]

_PARTS = {" accuracy": "accuracy", " weighted F1": "weighted_f1"}
"""Ends of the names under which a run of several tasks keeps the metrics of each."""


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """The result of a simulated run.

    Attributes:
        out: Directory of the run, with its report, its checkpoint and a directory for each institution.
        labels: In the order of the model's outputs.
        metrics: On the test rows, after the last round.
        metrics_before: On the test rows, before round 1.
        metrics_by_institution: On each institution's share of the test rows. Empty if the test rows are not divided.
        metrics_by_task: Of each task, if the run trains several together. Empty otherwise.
        rounds: Record of each round, oldest first.
        epsilon: Privacy loss of the run for each institution, at `delta`. None if it trained without privacy.
        unit: The protected unit, "record" or "customer".
        noise: "system", or "fixed", which protects nobody.
        bytes_up, bytes_down: Size of all sealed messages.
        seconds: Wall-clock time of the rounds.
        parameters_trained, parameters_total: Numbers that are trained, and all numbers of the model.
        baselines: Models on the same test rows without the federation, if they were asked for.
        adapter: Directory of the adapter. `fedfin.load_adapter` reads it.
        report: The page for a person to read.
    """

    out: Path
    name: str
    task: str
    labels: tuple[str, ...]
    metrics: Metrics
    metrics_before: Metrics
    metrics_by_institution: Mapping[str, Metrics]
    metrics_by_task: Mapping[str, Metrics]
    rounds: tuple[RoundRecord, ...]
    epsilon: Mapping[str, float | None]
    delta: float | None
    unit: str
    noise: str
    bytes_up: int
    bytes_down: int
    seconds: float
    parameters_trained: int
    parameters_total: int
    baselines: tuple[Baseline, ...]
    adapter: Path
    report: Path

    @classmethod
    def read(cls, out: Path | str) -> Self:
        """Read the files of a finished run in directory `out`.

        Raises:
            CheckpointError: There is no finished run, or a file is damaged.
        """
        out = Path(out)
        result, history = read_json(out / "result.json"), read_json(out / "history.json")
        if result is None or not isinstance(history, list):
            raise CheckpointError(f"{out}: no finished run (result.json or history.json is absent): run it to its end")
        record = ResultRecord.from_json(str(out / "result.json"), result)
        rounds = tuple(RoundRecord.from_json(str(out / "history.json"), value) for value in history)
        last = rounds[-1].by_institution if rounds else None  # the last round is always evaluated
        return cls(
            out=out,
            name=record.name,
            task=record.task,
            labels=record.labels,
            metrics=Metrics.from_json(record.metrics),
            metrics_before=Metrics.from_json(record.before_round_1),
            metrics_by_institution={name: Metrics.from_json(values) for name, values in (last or {}).items()},
            metrics_by_task=_by_task(record.metrics),
            rounds=rounds,
            epsilon=record.epsilon,
            delta=record.delta,
            unit=record.unit,
            noise=record.noise,
            bytes_up=record.bytes_up or 0,
            bytes_down=record.bytes_down or 0,
            seconds=record.seconds or 0.0,
            parameters_trained=record.parameters_trained or 0,
            parameters_total=record.parameters_total or 0,
            baselines=record.baselines,
            adapter=out / "adapter",
            report=out / "report.html",
        )


def _by_task(result: Mapping[str, float]) -> dict[str, Metrics]:
    by_task: dict[str, dict[str, float]] = {}
    for name, value in result.items():
        for end, metric in _PARTS.items():
            if name.endswith(end):
                by_task.setdefault(name.removesuffix(end), {})[metric] = value
    return {name: Metrics.from_json(metrics) for name, metrics in by_task.items()}

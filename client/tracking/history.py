"""The record of one training as values: its steps, its epochs, its use of the machine, and its result.

Losses and norms follow from private rows without noise, even if the training was private. They are kept for the
institution and never leave it.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from client.tracking.resources import Usage
from common.errors import CheckpointError
from common.events import EpochEvent, StepEvent

__all__ = ["History", "Summary", "leading_metric", "loss_curves", "read_history", "smoothed", "summarise"]

_VERSION = 1
_LEADING = ("entity_f1", "weighted_f1", "macro_f1", "high_risk_f1", "rouge_l", "accuracy")
"""Order of the leading metric in a record of an earlier release, which does not name it."""
_NEAR_LOWEST = 0.05
_UNTRAINED_BYTES = 12
"""Bytes that AdamW in float32 keeps for each number it trains: a gradient and two moments."""


@dataclass(frozen=True)
class History:
    """One training.

    Attributes:
        steps, epochs: Every step and every epoch.
        usage: Readings of the machine.
        memory_limit: Bytes that the training could use.
        run: The result, as in `FineTuningResult.to_json`. Empty during training.
    """

    steps: tuple[StepEvent, ...]
    epochs: tuple[EpochEvent, ...]
    usage: tuple[Usage, ...]
    memory_limit: int
    run: Mapping[str, Any]

    @property
    def private(self) -> bool:
        """Whether the training was differentially private."""
        return self.run.get("privacy") is not None

    def setting(self, name: str) -> Any:
        """Return a setting of the training. None if it has no such setting."""
        return self.run.get("settings", {}).get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the record as one JSON object, with steps and usage by column."""
        return {
            "version": _VERSION,
            "memory_limit": self.memory_limit,
            "run": dict(self.run),
            "steps": _columns(StepEvent, self.steps),
            "epochs": [asdict(event) for event in self.epochs],
            "usage": _columns(Usage, self.usage),
        }


def read_history(path: Path) -> History:
    """Read the record that `History.to_json` wrote.

    Raises:
        CheckpointError: The file is absent, damaged, or of another version.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            raise CheckpointError(f"{path}: of version {content['version']}: this program reads {_VERSION}")
        return History(
            steps=tuple(StepEvent(**row) for row in _rows(content["steps"])),
            epochs=tuple(EpochEvent(**row) for row in content["epochs"]),
            usage=tuple(Usage(**row) for row in _rows(content["usage"])),
            memory_limit=content["memory_limit"],
            run=content["run"],
        )
    except FileNotFoundError:
        raise CheckpointError(f"{path}: it is absent: give the directory that finetune wrote") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: damaged: train again, or delete it") from None


def _columns(kind: type[Any], rows: Sequence[Any]) -> dict[str, list[Any]]:
    return {each.name: [_short(getattr(row, each.name)) for row in rows] for each in fields(kind)}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@dataclass(frozen=True)
class Summary:
    """The main numbers of a training. A number that the training does not have is None.

    Attributes:
        figures: Metrics on the test rows. Several tasks have names such as "task.metric".
        accuracy: On the test rows.
        metric: Name of the metric that chose the epoch. Empty if no rows were held out.
        best_validation: Value of that metric on the held-out rows, in the epoch that was kept.
        best_epoch, epochs: The epoch that was kept, counted from 1, and the number of epochs.
        steps: Number of optimiser steps.
        converged_step: First step whose smoothed loss is within a twentieth of its whole fall from its minimum.
        lost_since_best: Loss of that metric from the best epoch to the last.
        overfits: Whether the metric lost a hundredth or more while the training loss fell further.
        seconds, examples_per_second, tokens_per_second: Training time and speed.
        cpu, gpu: Mean share of their use, 0 to 1.
        peak_memory: Bytes.
        trainable_parameters, total_parameters: Numbers of parameters.
        memory_saved: Bytes of gradients and optimiser state (AdamW in float32) that full fine-tuning would have needed
            in addition. Computed, not measured.
    """

    figures: Mapping[str, float]
    accuracy: float | None
    metric: str
    best_validation: float | None
    best_epoch: int | None
    epochs: int
    steps: int
    converged_step: int | None
    lost_since_best: float
    overfits: bool
    seconds: float
    examples_per_second: float
    tokens_per_second: float
    cpu: float | None
    gpu: float | None
    peak_memory: int
    trainable_parameters: int
    total_parameters: int
    memory_saved: int


def summarise(track: History) -> Summary:
    """Return the main numbers of a training."""
    run = track.run
    found = _flat(run.get("metrics", {}))
    name = leading_metric(track)
    measured = [event for event in track.epochs if name in event.metrics]
    best = next((event for event in reversed(measured) if event.best), None)
    last = measured[-1] if measured else None
    sign = -1 if name == "loss" else 1
    lost = sign * (best.metrics[name] - last.metrics[name]) if best and last else 0.0
    seconds = track.steps[-1].seconds if track.steps else 0.0
    # A continued training may lack steps that were not written down before it was cut: rates are of those seen.
    share = len(track.steps) / track.steps[-1].step if track.steps else 0.0
    trainable, whole = int(run.get("trainable_parameters", 0)), int(run.get("total_parameters", 0))
    gpu = [reading.gpu for reading in track.usage if reading.gpu is not None]
    return Summary(
        figures=found,
        accuracy=found.get("accuracy"),
        metric=name,
        best_validation=best.metrics[name] if best else None,
        best_epoch=best.epoch if best else None,
        epochs=len(track.epochs),
        steps=track.steps[-1].step if track.steps else 0,
        converged_step=_converged(track.steps),
        lost_since_best=lost,
        overfits=bool(best and last and lost >= 0.01 and last.train_loss < best.train_loss),
        seconds=seconds,
        examples_per_second=_rate(sum(step.examples for step in track.steps), seconds * share),
        tokens_per_second=_rate(sum(step.tokens for step in track.steps), seconds * share),
        cpu=statistics.fmean(reading.cpu for reading in track.usage) if track.usage else None,
        gpu=statistics.fmean(gpu) if gpu else None,
        peak_memory=int(run.get("peak_memory_bytes", 0)) or max((u.memory for u in track.usage), default=0),
        trainable_parameters=trainable,
        total_parameters=whole,
        memory_saved=_UNTRAINED_BYTES * (whole - trainable),
    )


def leading_metric(track: History) -> str:
    """Return the name of the metric that chose the epoch. Empty if no rows were held out."""
    last = track.epochs[-1] if track.epochs else None
    if last is None or last.metric:
        return "" if last is None else last.metric
    return next((name for wanted in _LEADING for name in last.metrics if name.rpartition(".")[2] == wanted), "")


def loss_curves(track: History) -> dict[str, list[float]]:
    """Return the mean loss of each whole epoch, for each task. A training of one task has the name "".

    Single steps are not compared, because their batches hold other rows, or other tasks.
    """
    names = list(track.epochs[-1].losses) if track.epochs else []
    if names:
        return {name: [event.losses[name] for event in track.epochs if name in event.losses] for name in names}
    by_epoch: dict[int, list[StepEvent]] = {}
    for step in track.steps:
        by_epoch.setdefault(step.epoch, []).append(step)
    whole = max((len(steps) for steps in by_epoch.values()), default=0)
    # An epoch that was interrupted holds only some of the rows.
    kept = [steps for _, steps in sorted(by_epoch.items()) if 2 * len(steps) > whole]
    return {"": [sum(e.loss * e.examples for e in each) / max(1, sum(e.examples for e in each)) for each in kept]}


def smoothed(values: Sequence[float]) -> list[float]:
    """Return (N,) running means of (N,) values. The window is a twentieth of the values and ends at each value."""
    window = max(1, len(values) // 20)
    return [statistics.fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def _converged(steps: Sequence[StepEvent]) -> int | None:
    if not steps:
        return None
    losses = smoothed([step.loss for step in steps])
    level = min(losses) + _NEAR_LOWEST * (losses[0] - min(losses))
    return next(step.step for step, loss in zip(steps, losses, strict=True) if loss <= level)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _flat(metrics: Mapping[str, Any], before: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        elif isinstance(value, int | float):
            found[before + name] = float(value)
    return found

"""What was seen of one training, as values: its steps, its epochs, what it took from the machine, what came of it.

Losses and norms are figures of private rows with no noise on them, whether or not the training was private. They are
kept for the institution and are no part of anything that leaves it.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from client.finetune.events import EpochEvent, StepEvent
from client.tracking.resources import Usage
from common.errors import CheckpointError

__all__ = ["History", "Summary", "leading_metric", "read_history", "smoothed", "summarise"]

_VERSION = 1
_F1 = ("entity_f1", "weighted_f1", "macro_f1", "high_risk_f1")
_LEADING = (*_F1, "rouge_l", "accuracy")
_NEAR_LOWEST = 0.05
_UNTRAINED_BYTES = 12
"""Bytes that AdamW in float32 keeps for each number it trains: a gradient and two moments."""


@dataclass(frozen=True)
class History:
    """One training.

    run: what was run: base model, tasks, strategy, method and settings, parameters, privacy, as in `Outcome`; empty
        while it still trains.
    memory_limit: bytes that there were to use.
    """

    steps: tuple[StepEvent, ...]
    epochs: tuple[EpochEvent, ...]
    usage: tuple[Usage, ...]
    memory_limit: int
    run: Mapping[str, Any]

    @property
    def private(self) -> bool:
        """Whether the rows were trained on under differential privacy."""
        return self.run.get("privacy") is not None

    def setting(self, name: str) -> Any:
        """A setting that was used, None where the run has none of that name."""
        return self.run.get("settings", {}).get(name)

    def to_json(self) -> dict[str, Any]:
        """As one JSON object: steps and usage by column."""
        return {
            "version": _VERSION,
            "memory_limit": self.memory_limit,
            "run": dict(self.run),
            "steps": _columns(StepEvent, self.steps),
            "epochs": [{**asdict(event), "metrics": dict(event.metrics)} for event in self.epochs],
            "usage": _columns(Usage, self.usage),
        }


def read_history(path: Path) -> History:
    """What `Track.to_json` wrote to `path`.

    Raises:
        CheckpointError: it is absent, damaged, or of another version.
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
        raise CheckpointError(f"{path}: there is none: give the directory that finetune wrote") from None
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
    """The figures of a training that are looked at first; None where it has no such figure.

    accuracy, figures: of the test rows, at the end; several tasks' under "task.figure".
    best_f1, best_epoch: the best on the validation rows, and the epoch that was kept.
    converged_step: the first step whose smoothed loss is within a twentieth of its whole fall from its lowest.
    lost_since_best: how much of the leading validation figure was lost from the best epoch to the last.
    overfits: the training loss fell further while a hundredth or more was lost.
    memory_saved: bytes of gradients and optimiser state (AdamW, float32) that full fine-tuning would have needed and
        this did not; computed, not measured.
    """

    figures: Mapping[str, float]
    accuracy: float | None
    best_f1: float | None
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
    """See `Summary`."""
    run = track.run
    found = _flat(run.get("metrics", {}))
    name = leading_metric(track)
    measured = [event for event in track.epochs if name in event.metrics]
    best = next((event for event in reversed(measured) if event.best), None)
    last = measured[-1] if measured else None
    lost = best.metrics[name] - last.metrics[name] if best and last else 0.0
    f1 = [value for e in measured for key, value in e.metrics.items() if key.rpartition(".")[2] == _f1_of(e.metrics)]
    seconds = track.steps[-1].seconds if track.steps else 0.0
    # A continued training may lack steps that were not written down before it was cut: rates are of those seen.
    share = len(track.steps) / track.steps[-1].step if track.steps else 0.0
    trainable, whole = int(run.get("trainable_parameters", 0)), int(run.get("total_parameters", 0))
    gpu = [reading.gpu for reading in track.usage if reading.gpu is not None]
    return Summary(
        figures=found,
        accuracy=found.get("accuracy"),
        best_f1=max(f1, default=None),
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
    """The validation figure to judge epochs by: F1 where there is one; "" without validation rows."""
    names = track.epochs[-1].metrics if track.epochs else {}
    return next((name for wanted in _LEADING for name in names if name.rpartition(".")[2] == wanted), "")


def smoothed(values: Sequence[float]) -> list[float]:
    """Running means over a twentieth of the values, each of the window that ends there; (N,) to (N,)."""
    window = max(1, len(values) // 20)
    return [statistics.fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def _converged(steps: Sequence[StepEvent]) -> int | None:
    if not steps:
        return None
    losses = smoothed([step.loss for step in steps])
    level = min(losses) + _NEAR_LOWEST * (losses[0] - min(losses))
    return next(step.step for step, loss in zip(steps, losses, strict=True) if loss <= level)


def _f1_of(metrics: Mapping[str, float]) -> str:
    names = {name.rpartition(".")[2] for name in metrics}
    return next((name for name in _F1 if name in names), "")


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

"""Recommend changes for the next training, each with the numbers of this training that led to it.

Losses are compared over whole epochs and for each task, because single batches hold unlike rows. One metric judges the
epochs: the one that chose them. The thresholds are rules of thumb that ask for a change only if the numbers leave
little doubt. A training that went well gets no recommendation. `python -m benchmarks.advice` counts how many planted
faults they find, and how many healthy trainings they disturb.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from client.tracking.advice import Recommendation, of_a_run
from client.tracking.history import History, Summary, leading_metric, loss_curves, summarise
from common.report.formatting import METRICS, format_bytes

__all__ = ["recommend"]


def recommend(track: History) -> tuple[Recommendation, ...]:
    """Return all recommendations, the most urgent first. A lower and a higher learning rate are never both returned."""
    if len(track.steps) < 2:
        return ()
    course = _Course(track, summarise(track), loss_curves(track))
    given = [each for rule in _RULES if (each := rule(course)) is not None]
    actions = {each.action for each in given}
    kept = tuple(each for each in given if each.action != "raise_the_rate" or "lower_the_rate" not in actions)
    return tuple(map(of_a_run, kept)) if track.run.get("strategy") == "federated" else kept


@dataclass(frozen=True)
class _Course:
    """The course of a training: its record, its summary, and the mean loss of each whole epoch, for each task."""

    track: History
    summary: Summary
    curves: Mapping[str, Sequence[float]]

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return max(step.learning_rate for step in self.track.steps)

    @property
    def metric(self) -> str:
        """Name of the metric that judges the epochs."""
        name = leading_metric(self.track)
        return METRICS.get(name, name.replace("_", " "))

    @property
    def start(self) -> float:
        """Mean loss of the first steps, a twentieth of the first epoch: the loss before training."""
        first = [step.loss for step in self.track.steps if step.epoch == self.track.steps[0].epoch]
        return statistics.fmean(first[: max(1, len(first) // 20)])

    @property
    def usual_rate(self) -> float | None:
        """The learning rate that the size of the model asks for. None if the record does not name it, or with privacy,
        whose steps are of another kind."""
        return None if self.track.private else self.track.setting("usual_learning_rate")

    @property
    def left(self) -> float | None:
        """Share of the first loss that the last epoch still has. None with several tasks, or without an epoch."""
        if len(self.curves) != 1 or self.start <= 0:
            return None
        [losses] = self.curves.values()
        return losses[-1] / self.start if losses else None

    @property
    def fall(self) -> float | None:
        """Smallest relative fall of a task's loss, from its first whole epoch to its last. None with one epoch."""
        curves = [curve for curve in self.curves.values() if len(curve) > 1 and curve[0] > 0]
        return min((1 - curve[-1] / curve[0] for curve in curves), default=None)


_FAR = 10.0
"""Factor between a learning rate and the usual one from which the rate itself is the likely cause."""
_HARDLY_LEARNED = 0.3
_UNDERFITTED = 0.05
"""Share of the first loss that the last epoch still has if a model has hardly learned, or could learn more."""
_ROWS_A_LABEL = 20

_Rule = Callable[[_Course], Recommendation | None]


def _lower_the_rate(course: _Course) -> Recommendation | None:
    usual, left = course.usual_rate, course.left
    if usual and left is not None and course.rate >= _FAR * usual and left > _HARDLY_LEARNED:
        return Recommendation(
            "lower_the_rate",
            f"--learning-rate {usual:.2g}",
            f"the last epoch still has {left:.0%} of the first loss, at a rate of {course.rate:.2g}: a model of this "
            f"size usually takes {usual:.2g}",
            {"loss_left": left, "learning_rate": course.rate, "usual_learning_rate": usual},
        )
    for name, losses in course.curves.items():
        if len(losses) < 2:
            continue
        lowest, end, begin = min(losses), losses[-1], max(losses[0], course.start if not name else losses[0])
        # A loss near zero doubles by little, so the rise is compared with the whole fall too.
        if end <= 1.25 * lowest or end - lowest <= 0.1 * (begin - lowest):
            continue
        rate, of = course.rate, f" of {name}" if name else ""
        return Recommendation(
            "lower_the_rate",
            f"--learning-rate {rate / 3:.2g}",
            f"the mean loss{of} in an epoch fell to {lowest:.3f} and rose again to {end:.3f}, at a rate of {rate:.2g}",
            {"lowest_loss": lowest, "final_loss": end, "learning_rate": rate},
        )
    return None


def _raise_the_rate(course: _Course) -> Recommendation | None:
    usual = course.usual_rate
    if usual and course.rate * _FAR <= usual:
        return Recommendation(
            "raise_the_rate",
            f"--learning-rate {usual:.2g}",
            f"a rate of {course.rate:.2g} is far below the {usual:.2g} that a model of this size usually takes: the "
            "adapter hardly moved, and what was learned is in the head",
            {"learning_rate": course.rate, "usual_learning_rate": usual},
        )
    if course.track.private or len(course.curves) != 1 or (usual and course.rate > usual):
        return None
    [losses] = course.curves.values()
    if len(losses) < 2 or losses[0] <= 0:
        return None
    fall, rate = 1 - losses[-1] / losses[0], course.rate
    # A loss that fell within the first epoch has moved, and a loss above its start needs no larger steps.
    if not -0.05 <= fall < 0.1 or not 0.8 < losses[-1] / max(course.start, 1e-9) < 1.25:
        return None
    return Recommendation(
        "raise_the_rate",
        f"--learning-rate {3 * rate:.2g}",
        f"the mean loss in an epoch hardly moved, from {losses[0]:.3f} to {losses[-1]:.3f} ({fall:.0%}), at a rate of "
        f"{rate:.2g}",
        {"first_loss": losses[0], "final_loss": losses[-1], "learning_rate": rate},
    )


def _stop_earlier(course: _Course) -> Recommendation | None:
    track, summary = course.track, course.summary
    best, done = summary.best_epoch, summary.epochs
    if best is None or done - best < 2 or best > 0.6 * done or summary.lost_since_best < _least_loss(course):
        return None
    return Recommendation(
        "stop_earlier",
        f"--epochs {best}",
        f"epoch {best} of {done} was the best: the {done - best} after it took "
        f"{track.epochs[-1].seconds - track.epochs[best - 1].seconds:.0f} s and lost "
        f"{summary.lost_since_best:.3f} of {course.metric}",
        {"best_epoch": best, "epochs": done, "lost": summary.lost_since_best},
    )


def _least_loss(course: _Course) -> float:
    """Return the loss of the metric that is more than chance: its standard error on the held-out rows, and 0.005."""
    held = [sizes["validation"] for sizes in (course.track.setting("rows") or {}).values() if sizes["validation"]]
    best = course.summary.best_validation
    if not held or best is None or course.summary.metric == "loss":
        return 0.005 - 1e-9
    return max(0.005 - 1e-9, math.sqrt(best * (1 - best) / min(held)))


def _train_longer(course: _Course) -> Recommendation | None:
    summary, epochs, name = course.summary, course.track.epochs, leading_metric(course.track)
    if len(epochs) < 2 or not name or summary.best_epoch != summary.epochs or summary.epochs < epochs[-1].epochs:
        return None
    gained = (epochs[-1].metrics[name] - epochs[-2].metrics[name]) * (-1 if name == "loss" else 1)
    if gained < 0.005:
        return None
    return Recommendation(
        "train_longer",
        f"--epochs {2 * summary.epochs}",
        f"the last epoch still gained {gained:.3f} of {course.metric}",
        {"gained_in_last_epoch": gained, "epochs": summary.epochs},
    )


def _more_rank(course: _Course) -> Recommendation | None:
    track, summary = course.track, course.summary
    rank, method = track.setting("rank"), track.run.get("method")
    if method not in ("lora", "qlora") or not rank or rank >= 64 or summary.overfits or track.private:
        return None
    # Without held-out rows nobody knows whether a larger adapter would overfit.
    if not leading_metric(track) or len(course.curves) != 1:
        return None
    [losses] = course.curves.values()
    if len(losses) < 3 or course.start <= 0:
        return None
    usual = track.setting("usual_rank") or 0
    remains = losses[-1] / course.start
    if 4 * rank <= usual and remains > _UNDERFITTED:
        return Recommendation(
            "more_rank",
            f"--rank {usual:.0f} --alpha {2 * usual:.0f}",
            f"rank {rank} is far below {usual:.0f}, the preset of the task, and the last epoch still has {remains:.0%} "
            "of the first loss without overfitting",
            {"rank": rank, "usual_rank": usual, "loss_left": remains},
        )
    half, left = losses[len(losses) // 2], losses[-1] / course.start
    if losses[-1] < 0.97 * half or not 0.5 < left <= 0.9:
        return None
    epoch = 1 + len(losses) // 2
    return Recommendation(
        "more_rank",
        f"--rank {2 * rank} --alpha {4 * rank}",
        f"at rank {rank} the mean loss stopped falling in epoch {epoch} of {len(losses)}, at {left:.0%} of its first "
        f"value, and {course.metric} on the held-out rows did not suffer: the adapter is too small for the task",
        {"rank": rank, "epoch": epoch, "loss_left": left},
    )


def _more_rows(course: _Course) -> Recommendation | None:
    sizes = course.track.setting("rows") or {}
    for name, labels in (course.track.setting("labels") or {}).items():
        rows = sizes[name]["train"]
        if labels < 2 or rows >= _ROWS_A_LABEL * labels:
            continue
        return Recommendation(
            "more_rows",
            f"add rows of {name}: {_ROWS_A_LABEL * labels} or more",
            f"{rows} rows of {labels} labels are {rows / labels:.1f} a label: below {_ROWS_A_LABEL} a label is hardly "
            "learned, whatever the settings",
            {"rows": rows, "labels": labels},
        )
    return None


def _fewer_modules(course: _Course) -> Recommendation | None:
    track, summary = course.track, course.summary
    share = summary.trainable_parameters / summary.total_parameters if summary.total_parameters else 0.0
    if not summary.overfits or share < 0.01 or track.run.get("method") not in ("lora", "qlora"):
        return None
    return Recommendation(
        "fewer_modules",
        "--target-modules task, or --layers last:2",
        f"it overfits: {summary.lost_since_best:.3f} of {course.metric} was lost after epoch {summary.best_epoch} "
        f"while the training loss fell, with {share:.1%} of the model trained",
        {"lost": summary.lost_since_best, "best_epoch": summary.best_epoch or 0, "trainable_share": share},
    )


def _raise_the_batch(course: _Course) -> Recommendation | None:
    track, summary, losses = course.track, course.summary, [step.loss for step in course.track.steps]
    batch = track.setting("batch_size") or 0
    if track.private:
        fall = course.fall
        if fall is None or fall >= 0.1:
            return None
        return Recommendation(
            "raise_the_batch",
            "a larger batch: --batch-size, with fewer steps",
            f"the mean loss fell by {fall:.0%} only: with privacy, a larger batch divides the same noise",
            {"loss_fall": fall, "batch_size": batch},
        )
    changes = [abs(after - before) for before, after in itertools.pairwise(losses[len(losses) // 2 :])]
    # Batches of several tasks differ by their tasks, so their swing says nothing about the noise.
    swing = statistics.median(changes) / losses[0] if changes and losses[0] > 0 and len(course.curves) == 1 else 0.0
    free = 1 - summary.peak_memory / track.memory_limit
    idle = summary.gpu is not None and summary.gpu < 0.6
    if not 0 < batch <= 64 or free < 0.5 or not (swing > 0.25 or idle):
        return None
    why = f"the loss swings by {swing:.0%} of where it began from step to step"
    if idle:
        why = f"the GPU is busy {summary.gpu:.0%} of the time"
    return Recommendation(
        "raise_the_batch",
        f"--batch-size {2 * batch}",
        f"{why} at a batch of {batch}, and {free:.0%} of the memory is free",
        {"batch_size": batch, "loss_swing": swing, "memory_free": free},
    )


def _save_memory(course: _Course) -> Recommendation | None:
    track, summary = course.track, course.summary
    share = summary.peak_memory / track.memory_limit
    if share < 0.85:
        return None
    figures = {"peak_memory": summary.peak_memory, "memory_limit": track.memory_limit}
    because = (
        f"{format_bytes(summary.peak_memory)} of {format_bytes(track.memory_limit)} memory was taken ({share:.0%})"
    )
    # Four bits a parameter help if the model fills the memory. With a small encoder the batch does.
    weights = 4 * summary.total_parameters
    if track.run.get("method") == "lora" and not track.private and weights > 0.4 * summary.peak_memory:
        because += f", {format_bytes(weights)} of it the base model"
        return Recommendation("switch_to_qlora", "--adapter qlora", because, figures | {"base_model": weights})
    return Recommendation("recompute", "--gradient-checkpointing", because, figures)


_RULES: tuple[_Rule, ...] = (
    _more_rows,
    _lower_the_rate,
    _raise_the_rate,
    _save_memory,
    _stop_earlier,
    _fewer_modules,
    _train_longer,
    _more_rank,
    _raise_the_batch,
)

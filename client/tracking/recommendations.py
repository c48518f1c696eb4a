"""What to change next time, each piece of advice with the figures of this training that led to it.

The thresholds are rules of thumb, chosen so that each asks for a change only where the figures leave little doubt; a
training that went well gets no advice.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from client.tracking.history import History, Summary, leading_metric, smoothed, summarise
from common.report.formatting import METRICS, format_bytes

__all__ = ["Recommendation", "recommend"]


@dataclass(frozen=True)
class Recommendation:
    """One change.

    action: its name, the same wherever it is given.
    advice: what to do, as an option of `fedfin-institution finetune` where there is one.
    because: the figures in words.
    figures: the figures.
    """

    action: str
    advice: str
    because: str
    figures: Mapping[str, float]


def recommend(track: History) -> tuple[Recommendation, ...]:
    """All that the figures ask for, the most urgent first; empty where nothing does, or nothing was seen."""
    if len(track.steps) < 2:
        return ()
    losses = [step.loss for step in track.steps]
    seen = _Seen(track, summarise(track), losses, smoothed(losses))
    found = (rule(seen) for rule in _RULES)
    return tuple(each for each in found if each is not None)


@dataclass(frozen=True)
class _Seen:
    """What the rules look at; `smooth` are the losses smoothed."""

    track: History
    summary: Summary
    losses: list[float]
    smooth: list[float]

    @property
    def rate(self) -> float:
        """The highest."""
        return max(step.learning_rate for step in self.track.steps)

    @property
    def metric(self) -> str:
        """The name of the figure that epochs are judged by."""
        name = leading_metric(self.track)
        return METRICS.get(name, name.replace("_", " "))

    @property
    def fall(self) -> float:
        """Of the loss, from its first value to its last, in parts of the first."""
        return 1 - self.smooth[-1] / self.smooth[0] if self.smooth[0] > 0 else 1.0


_Rule = Callable[[_Seen], Recommendation | None]


def _lower_the_rate(seen: _Seen) -> Recommendation | None:
    losses = seen.smooth
    lowest, end = min(losses), losses[-1]
    # A loss near zero doubles by little; what was lost must be seen against the whole fall too.
    if end <= 1.25 * lowest or end - lowest <= 0.1 * (losses[0] - lowest):
        return None
    rate = seen.rate
    return Recommendation(
        "lower_the_rate",
        f"--learning-rate {rate / 3:.2g}",
        f"the loss fell to {lowest:.3f} and rose again to {end:.3f}, at a rate of {rate:.2g}",
        {"lowest_loss": lowest, "final_loss": end, "learning_rate": rate},
    )


def _raise_the_rate(seen: _Seen) -> Recommendation | None:
    losses, fall = seen.smooth, seen.fall
    if seen.track.private or not -0.05 <= fall < 0.1 or max(losses) > 1.25 * losses[0]:
        return None
    rate = seen.rate
    return Recommendation(
        "raise_the_rate",
        f"--learning-rate {3 * rate:.2g}",
        f"the loss hardly moved, from {losses[0]:.3f} to {losses[-1]:.3f} ({fall:.0%}), at a rate of {rate:.2g}",
        {"first_loss": losses[0], "final_loss": losses[-1], "learning_rate": rate},
    )


def _stop_earlier(seen: _Seen) -> Recommendation | None:
    track, summary = seen.track, seen.summary
    best, done = summary.best_epoch, summary.epochs
    if best is None or done - best < 2 or best > 0.6 * done:
        return None
    return Recommendation(
        "stop_earlier",
        f"--epochs {best}",
        f"epoch {best} of {done} was the best: the {done - best} after it took "
        f"{track.epochs[-1].seconds - track.epochs[best - 1].seconds:.0f} s and lost "
        f"{summary.lost_since_best:.3f} of {seen.metric}",
        {"best_epoch": best, "epochs": done, "lost": summary.lost_since_best},
    )


def _train_longer(seen: _Seen) -> Recommendation | None:
    summary, epochs, name = seen.summary, seen.track.epochs, leading_metric(seen.track)
    if len(epochs) < 2 or not name or summary.best_epoch != summary.epochs or summary.epochs < epochs[-1].epochs:
        return None
    gained = epochs[-1].metrics[name] - epochs[-2].metrics[name]
    if gained < 0.005:
        return None
    return Recommendation(
        "train_longer",
        f"--epochs {2 * summary.epochs}",
        f"the last epoch still gained {gained:.3f} of {seen.metric}",
        {"gained_in_last_epoch": gained, "epochs": summary.epochs},
    )


def _more_rank(seen: _Seen) -> Recommendation | None:
    track, summary = seen.track, seen.summary
    rank, method, level = track.setting("rank"), track.run.get("method"), 1 - seen.fall
    early = summary.converged_step is not None and summary.converged_step <= 0.5 * summary.steps
    if method not in ("lora", "qlora") or not rank or rank >= 64 or summary.overfits or track.private:
        return None
    if not early or not 0.5 < level <= 0.9:
        return None
    return Recommendation(
        "more_rank",
        f"--rank {2 * rank} --alpha {4 * rank}",
        f"at rank {rank} the loss stopped falling at step {summary.converged_step} of {summary.steps}, at {level:.0%} "
        "of where it began, and validation did not suffer: the adapter is too small for the task",
        {"rank": rank, "converged_step": summary.converged_step or 0, "loss_left": level},
    )


def _fewer_modules(seen: _Seen) -> Recommendation | None:
    track, summary = seen.track, seen.summary
    share = summary.trainable_parameters / summary.total_parameters if summary.total_parameters else 0.0
    if not summary.overfits or share < 0.01 or track.run.get("method") not in ("lora", "qlora"):
        return None
    return Recommendation(
        "fewer_modules",
        "--target-modules task, or --layers last:2",
        f"it overfits: {summary.lost_since_best:.3f} of {seen.metric} was lost after epoch {summary.best_epoch} "
        f"while the training loss fell, with {share:.1%} of the model trained",
        {"lost": summary.lost_since_best, "best_epoch": summary.best_epoch or 0, "trainable_share": share},
    )


def _raise_the_batch(seen: _Seen) -> Recommendation | None:
    track, summary, losses = seen.track, seen.summary, seen.losses
    batch = track.setting("batch_size") or 0
    if track.private:
        if seen.fall >= 0.1:
            return None
        return Recommendation(
            "raise_the_batch",
            "a larger batch: --batch-size, with fewer steps",
            f"the loss fell by {seen.fall:.0%} only: under differential privacy, a larger batch divides the same noise",
            {"loss_fall": seen.fall, "batch_size": batch},
        )
    changes = [abs(after - before) for before, after in itertools.pairwise(losses[len(losses) // 2 :])]
    swing = statistics.median(changes) / losses[0] if changes and losses[0] > 0 else 0.0
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


def _save_memory(seen: _Seen) -> Recommendation | None:
    track, summary = seen.track, seen.summary
    share = summary.peak_memory / track.memory_limit
    if share < 0.85:
        return None
    figures = {"peak_memory": summary.peak_memory, "memory_limit": track.memory_limit}
    because = (
        f"{format_bytes(summary.peak_memory)} of {format_bytes(track.memory_limit)} memory was taken ({share:.0%})"
    )
    # Four bits a number help where the model is what fills the memory; a small encoder's batch does.
    weights = 4 * summary.total_parameters
    if track.run.get("method") == "lora" and not track.private and weights > 0.4 * summary.peak_memory:
        because += f", {format_bytes(weights)} of it the base model"
        return Recommendation("switch_to_qlora", "--adapter qlora", because, figures | {"base_model": weights})
    return Recommendation("recompute", "--gradient-checkpointing", because, figures)


_RULES: tuple[_Rule, ...] = (
    _lower_the_rate,
    _raise_the_rate,
    _save_memory,
    _stop_earlier,
    _fewer_modules,
    _train_longer,
    _more_rank,
    _raise_the_batch,
)

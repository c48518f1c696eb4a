"""From counts to the figures that a task is judged by, under the names that reports and cards use."""

from collections.abc import Sequence

from common.evaluation.metrics import AnyCounts, EntityCounts, TokenCounts, headline
from common.tasks import Task

__all__ = ["high_risk_levels", "plain_label", "selection_metric", "task_metrics"]


def high_risk_levels(task: Task, labels: Sequence[str]) -> tuple[int, ...]:
    """Indices of the task's high-risk levels among `labels`: by name, or by position where numbers name the levels."""
    names = [plain_label(label) for label in labels]
    risky = {task.labels[index] for index in task.high_risk}
    if all(name.isdecimal() for name in names) and len(names) == len(task.labels):
        return task.high_risk
    return tuple(index for index, name in enumerate(names) if name in risky)


def selection_metric(task: Task, labels: Sequence[str]) -> str:
    """The figure that chooses between epochs: the task's own, or macro F1 where no label names a high-risk level."""
    return "macro_f1" if task.high_risk and not high_risk_levels(task, labels) else task.metric


def task_metrics(task: Task, labels: Sequence[str], counts: AnyCounts) -> dict[str, float]:
    """Accuracy, weighted precision, recall and F1, macro F1; and what the labels make possible beside them.

    `negative_recall` where a label is "negative"; `high_risk_f1` ("is it any of them?") and `high_risk_macro_f1`
    (the mean F1 of the levels) where levels are; for entities their micro figures, which are seqeval's. Of a language
    model: accuracy, perplexity, and the mean log-likelihood of a token in nats.
    """
    if isinstance(counts, TokenCounts):
        return headline(counts) | {"log_likelihood": -counts.loss / max(1, counts.tokens)}
    found = {"accuracy": counts.accuracy, "weighted_f1": counts.weighted_f1, "macro_f1": counts.macro_f1}
    if isinstance(counts, EntityCounts):
        return found | {"entity_f1": counts.entity_f1, "precision": counts.precision, "recall": counts.recall}
    found |= {"weighted_precision": counts.weighted_precision, "weighted_recall": counts.weighted_recall}
    names = [plain_label(label) for label in labels]
    if "negative" in names:
        found["negative_recall"] = counts.recall(names.index("negative"))
    if levels := high_risk_levels(task, labels):
        found["high_risk_f1"] = counts.high_risk_f1(levels)
        found["high_risk_macro_f1"] = sum(counts.f1(level) for level in levels) / len(levels)
    return found


def plain_label(label: str) -> str:
    """A label without case, and with one kind of gap: "Very High" is "very_high"."""
    return label.strip().casefold().replace(" ", "_").replace("-", "_")

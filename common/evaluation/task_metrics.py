"""From counts to the figures that a task is judged by, under the names that reports and cards use."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from common.evaluation.answers import ResponseCounts
from common.evaluation.entities import EntityCounts
from common.evaluation.metrics import AnyCounts, TokenCounts, headline
from common.spelling import plain_label
from common.tasks import Task

__all__ = ["Metrics", "high_risk_levels", "selection_metric", "task_metrics"]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Metrics of one task on one set of rows. A metric that the task does not have is None.

    Shares from 0 to 1, except for `perplexity` (1 or more, lower is better) and `log_likelihood` (nats a token).

    Attributes:
        accuracy: Share of the texts, or of the words, with the right label.
        weighted_f1: F1 of each label, weighted by the number of its examples.
        macro_f1: Mean F1 of all labels.
        weighted_precision, weighted_recall: The same weighting of precision and recall.
        negative_recall: Recall of the label "negative".
        high_risk_f1: F1 of the question "is the text at any high-risk level?".
        high_risk_macro_f1: Mean F1 of the high-risk levels.
        entity_f1, precision, recall: Micro averages over whole entities, as seqeval computes them.
        rouge_l: Mean ROUGE-L F1 of summaries, and of responses that are no labels.
        valid_answers: Share of the responses that are a label, if the expected ones form a small closed set.
        perplexity, log_likelihood: Of a language model, or of the expected responses.

    >>> Metrics.from_json({"accuracy": 0.75, "macro_f1": 0.7, "seconds": 3.0}).macro_f1
    0.7
    """

    accuracy: float | None = None
    weighted_f1: float | None = None
    macro_f1: float | None = None
    weighted_precision: float | None = None
    weighted_recall: float | None = None
    negative_recall: float | None = None
    high_risk_f1: float | None = None
    high_risk_macro_f1: float | None = None
    entity_f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    rouge_l: float | None = None
    valid_answers: float | None = None
    perplexity: float | None = None
    log_likelihood: float | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the metrics that `record` holds. Entries under other names are left out."""
        known = {field.name: record.get(field.name) for field in fields(cls)}
        return cls(**{name: float(value) for name, value in known.items() if isinstance(value, int | float)})

    def to_json(self) -> dict[str, float]:
        """Return the metrics that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def high_risk_levels(task: Task, labels: Sequence[str]) -> tuple[int, ...]:
    """Indices of the task's high-risk levels among `labels`: by name, or by position where numbers name the levels."""
    names = [plain_label(label) for label in labels]
    risky = {task.labels[index] for index in task.high_risk}
    if all(name.isdecimal() for name in names) and len(names) == len(task.labels):
        return task.high_risk
    return tuple(index for index, name in enumerate(names) if name in risky)


def selection_metric(task: Task, labels: Sequence[str]) -> str:
    """The figure that chooses between epochs: the task's own, or macro F1 if no label names a high-risk level."""
    return "macro_f1" if task.high_risk and not high_risk_levels(task, labels) else task.metric


def task_metrics(task: Task, labels: Sequence[str], counts: AnyCounts) -> dict[str, float]:
    """Accuracy, weighted precision, recall and F1, macro F1, and further metrics that depend on the labels.

    `negative_recall` if a label is "negative". `high_risk_f1` ("is it any of them?") and `high_risk_macro_f1`
    (the mean F1 of the levels) if labels name risk levels. For entities their micro metrics, which equal seqeval's. Of
    a language model accuracy and perplexity, of a model that writes text the figures of `ResponseCounts`, and of both
    the mean log-likelihood of a token in nats.
    """
    if isinstance(counts, TokenCounts | ResponseCounts):
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

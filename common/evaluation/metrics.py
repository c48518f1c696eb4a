"""Counts that add up, and the metrics that follow from them.

The evaluation of a part returns counts. The counts of the whole are their sum, never a mean of metrics.
"""

import functools
import json
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.evaluation import ratios
from common.evaluation.answers import ResponseCounts
from common.evaluation.entities import EntityCounts
from common.evaluation.ratios import ratio

__all__ = ["AnyCounts", "ConfusionMatrix", "TokenCounts", "headline", "total"]


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """A confusion matrix: `matrix[t, p]` examples of label t were given label p. int64, (labels, labels).

    Raises:
        DataError: not a square matrix of whole numbers of 0 or more.
    """

    matrix: NDArray[np.int64]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix)
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0
        if not square or matrix.dtype.kind not in "iu" or (matrix < 0).any():
            raise DataError("counts: expected a square matrix of whole numbers of 0 or more")
        matrix = matrix.astype(np.int64)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def of(cls, truth: Sequence[int], predicted: Sequence[int], labels: int) -> "ConfusionMatrix":
        """Count pairs of label numbers.

        Args:
            truth: The N labels of the examples, each from 0 to `labels` - 1.
            predicted: The N labels that the model gave them.
            labels: Number of labels.

        Raises:
            DataError: The lengths differ, or a label number is out of range.
        """
        true, given = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
        if true.shape != given.shape or true.ndim != 1:
            raise DataError(f"counts: {true.size} labels but {given.size} predictions: give one of each per example")
        for name, values in (("label", true), ("prediction", given)):
            if values.size and not 0 <= values.min() <= values.max() < labels:
                raise DataError(f"counts: a {name} is not between 0 and {labels - 1}: check the number of labels")
        return cls(np.bincount(true * labels + given, minlength=labels * labels).reshape(labels, labels))

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        if self.matrix.shape != other.matrix.shape:
            raise DataError("counts: of different numbers of labels: they cannot be added")
        return ConfusionMatrix(self.matrix + other.matrix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionMatrix) and np.array_equal(self.matrix, other.matrix)

    @property
    def total(self) -> int:
        """Number of examples that were counted."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of examples given their own label."""
        return ratio(np.trace(self.matrix), self.total)

    def precision(self, label: int) -> float:
        """Share of those given `label` that have it."""
        return ratio(self.matrix[label, label], self.matrix[:, label].sum())

    def recall(self, label: int) -> float:
        """Share of those that have `label` that were given it."""
        return ratio(self.matrix[label, label], self.matrix[label].sum())

    def f1(self, label: int) -> float:
        """Harmonic mean of `precision` and `recall` of `label`."""
        hits = self.matrix[label, label]
        return ratios.f1(hits, self.matrix[:, label].sum() - hits, self.matrix[label].sum() - hits)

    def _weighted(self, figures: Iterable[float]) -> float:
        return ratio(float(np.dot(self.matrix.sum(axis=1), np.fromiter(figures, dtype=np.float64))), self.total)

    @property
    def weighted_precision(self) -> float:
        """Precision of each label, weighted by how many examples have it."""
        return self._weighted(self.precision(label) for label in range(len(self.matrix)))

    @property
    def weighted_recall(self) -> float:
        """Recall of each label, weighted by its number of examples. It equals `accuracy`."""
        return self._weighted(self.recall(label) for label in range(len(self.matrix)))

    @property
    def weighted_f1(self) -> float:
        """F1 of each label, weighted by how many examples have it."""
        return self._weighted(self.f1(label) for label in range(len(self.matrix)))

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of every label that occurs, in truth or prediction (scikit-learn's convention)."""
        occurring = np.flatnonzero(self.matrix.sum(axis=0) + self.matrix.sum(axis=1))
        return ratio(sum(self.f1(int(label)) for label in occurring), occurring.size)

    def high_risk_f1(self, levels: Sequence[int]) -> float:
        """F1 of the one question "is it any of `levels`?". Confusion among them does not count."""
        risky = np.isin(np.arange(len(self.matrix)), list(levels))
        hits = self.matrix[np.ix_(risky, risky)].sum()
        return ratios.f1(hits, self.matrix[np.ix_(~risky, risky)].sum(), self.matrix[np.ix_(risky, ~risky)].sum())

    def to_json(self) -> str:
        """The matrix as JSON."""
        return json.dumps({"matrix": self.matrix.tolist()})

    @classmethod
    def from_json(cls, text: str) -> "ConfusionMatrix":
        """Read the counts that `to_json` wrote.

        Raises:
            DataError: on any other text.
        """
        try:
            return cls(np.array(json.loads(text)["matrix"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            raise DataError("counts: not a JSON confusion matrix: write it with to_json") from None


@dataclass(frozen=True)
class TokenCounts:
    """Predictions of a language model for target tokens: how many, how many were right, their summed loss (nats)."""

    tokens: int
    right: int
    loss: float

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(self.tokens + other.tokens, self.right + other.right, self.loss + other.loss)

    @property
    def accuracy(self) -> float:
        """Share of the tokens whose likeliest guess was right."""
        return ratio(self.right, self.tokens)

    @property
    def perplexity(self) -> float:
        """exp(mean loss a token): among how many equally likely tokens the model still wavers. Lower is better."""
        return math.exp(min(ratio(self.loss, self.tokens), 700.0))


AnyCounts = ConfusionMatrix | EntityCounts | TokenCounts | ResponseCounts


def total(parts: Sequence[AnyCounts]) -> AnyCounts:
    """Return the sum of the counts of all parts, which must be of one kind.

    Raises:
        DataError: There is no part, or there are parts of two kinds.
    """
    sequence = [part for part in parts if isinstance(part, ConfusionMatrix)]
    entity = [part for part in parts if isinstance(part, EntityCounts)]
    words = [part for part in parts if isinstance(part, TokenCounts)]
    written = [part for part in parts if isinstance(part, ResponseCounts)]
    if parts and len(sequence) == len(parts):
        return functools.reduce(operator.add, sequence)
    if parts and len(entity) == len(parts):
        return functools.reduce(operator.add, entity)
    if parts and len(words) == len(parts):
        return functools.reduce(operator.add, words)
    if parts and len(written) == len(parts):
        return functools.reduce(operator.add, written)
    raise DataError("counts: no parts, or parts of different tasks: they have no total")


def headline(counts: AnyCounts) -> dict[str, float]:
    """Return the metrics that every report begins with.

    They are accuracy, weighted and macro F1, for entities also the micro F1. Those of a language model are accuracy and
    perplexity. For those of a model that writes text see `ResponseCounts.figures`.
    """
    if isinstance(counts, ResponseCounts):
        return counts.figures()
    if isinstance(counts, TokenCounts):
        return {"accuracy": counts.accuracy, "perplexity": counts.perplexity}
    figures = {"accuracy": counts.accuracy, "weighted_f1": counts.weighted_f1, "macro_f1": counts.macro_f1}
    return figures | {"entity_f1": counts.entity_f1} if isinstance(counts, EntityCounts) else figures

"""Counts that add up, and the figures a person reads from them.

The evaluation of a part returns counts. The counts of the whole are their sum, never a mean of metrics. A figure whose
denominator is empty is 0, as in scikit-learn with `zero_division=0`.
"""

import functools
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

__all__ = ["AnyCounts", "ConfusionMatrix", "EntityCounts", "TokenCounts", "entities", "headline", "rouge_l", "total"]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _f1(true_positive: float, false_positive: float, false_negative: float) -> float:
    return _ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative)


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
        """Count pairs of label numbers, each from 0 to `labels` - 1.

        Raises:
            DataError: lengths differ, or a label number is out of range.
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
        """How many examples were counted."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of examples given their own label."""
        return _ratio(np.trace(self.matrix), self.total)

    def precision(self, label: int) -> float:
        """Share of those given `label` that have it."""
        return _ratio(self.matrix[label, label], self.matrix[:, label].sum())

    def recall(self, label: int) -> float:
        """Share of those that have `label` that were given it."""
        return _ratio(self.matrix[label, label], self.matrix[label].sum())

    def f1(self, label: int) -> float:
        """Harmonic mean of `precision` and `recall` of `label`."""
        hits = self.matrix[label, label]
        return _f1(hits, self.matrix[:, label].sum() - hits, self.matrix[label].sum() - hits)

    def _weighted(self, figures: Iterable[float]) -> float:
        return _ratio(float(np.dot(self.matrix.sum(axis=1), np.fromiter(figures, dtype=np.float64))), self.total)

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
        return _ratio(sum(self.f1(int(label)) for label in occurring), occurring.size)

    def high_risk_f1(self, levels: Sequence[int]) -> float:
        """F1 of the one question "is it any of `levels`?". Confusion among them does not count."""
        risky = np.isin(np.arange(len(self.matrix)), list(levels))
        hits = self.matrix[np.ix_(risky, risky)].sum()
        return _f1(hits, self.matrix[np.ix_(~risky, risky)].sum(), self.matrix[np.ix_(risky, ~risky)].sum())

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


Span = tuple[str, int, int]


def entities(tags: Sequence[str]) -> set[Span]:
    """Entities of one IOB-tagged sequence as (type, first, last word), read as conlleval and seqeval do.

    Lenient: an `I-` after `O`, or after another type, begins an entity too.

    Raises:
        DataError: a tag that is not `O`, `B-type` or `I-type`.
    """
    found: set[Span] = set()
    kind, start = "", 0
    for position, tag in enumerate((*tags, "O")):
        prefix, _, name = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not name):
            raise DataError(f"tags: word {position + 1} has a tag that is not O, B-type or I-type: convert to IOB")
        if kind and (prefix != "I" or name != kind):
            found.add((kind, start, position - 1))
            kind = ""
        if name and not kind:
            kind, start = name, position
    return found


@dataclass(frozen=True)
class EntityCounts:
    """Entities found, invented and missed, by type (an entity counts if type and both ends are right), and words.

    `true_positive`, `false_positive`, `false_negative`: entities by type. `words`, `words_right`: tags compared.
    """

    true_positive: Mapping[str, int]
    false_positive: Mapping[str, int]
    false_negative: Mapping[str, int]
    words: int = 0
    words_right: int = 0

    @classmethod
    def of(cls, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> "EntityCounts":
        """Compare tag sequences pair by pair.

        Raises:
            DataError: a sequence has no counterpart of the same length, or a tag is not IOB.
        """
        if len(truth) != len(predicted) or any(len(a) != len(b) for a, b in zip(truth, predicted, strict=True)):
            raise DataError("tags: truth and prediction differ in length: give one predicted tag per word")
        right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
        for tags, guesses in zip(truth, predicted, strict=True):
            real, claimed = entities(tags), entities(guesses)
            right.update(kind for kind, _, _ in real & claimed)
            wrong.update(kind for kind, _, _ in claimed - real)
            missed.update(kind for kind, _, _ in real - claimed)
        pairs = list(zip(chain(*truth), chain(*predicted), strict=True))
        return cls(dict(right), dict(wrong), dict(missed), len(pairs), sum(a == b for a, b in pairs))

    def __add__(self, other: "EntityCounts") -> "EntityCounts":
        return EntityCounts(
            dict(Counter(self.true_positive) + Counter(other.true_positive)),
            dict(Counter(self.false_positive) + Counter(other.false_positive)),
            dict(Counter(self.false_negative) + Counter(other.false_negative)),
            self.words + other.words,
            self.words_right + other.words_right,
        )

    @property
    def types(self) -> tuple[str, ...]:
        """Every type that occurs, in truth or prediction."""
        return tuple(sorted({*self.true_positive, *self.false_positive, *self.false_negative}))

    @property
    def accuracy(self) -> float:
        """Share of words with the right tag. It is flattering, since most words are `O`."""
        return _ratio(self.words_right, self.words)

    def f1(self, kind: str) -> float:
        """F1 of the entities of one type."""
        return _f1(*(counts.get(kind, 0) for counts in (self.true_positive, self.false_positive, self.false_negative)))

    @property
    def precision(self) -> float:
        """Share of claimed entities that are real."""
        hits = sum(self.true_positive.values())
        return _ratio(hits, hits + sum(self.false_positive.values()))

    @property
    def recall(self) -> float:
        """Share of real entities that were found."""
        hits = sum(self.true_positive.values())
        return _ratio(hits, hits + sum(self.false_negative.values()))

    @property
    def entity_f1(self) -> float:
        """Micro F1 over all entities: the figure usually quoted."""
        return _f1(*(sum(c.values()) for c in (self.true_positive, self.false_positive, self.false_negative)))

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of every type that occurs."""
        return _ratio(sum(self.f1(kind) for kind in self.types), len(self.types))

    @property
    def weighted_f1(self) -> float:
        """F1 of each type, weighted by how many real entities are of it."""
        support = {kind: self.true_positive.get(kind, 0) + self.false_negative.get(kind, 0) for kind in self.types}
        return _ratio(sum(n * self.f1(kind) for kind, n in support.items()), sum(support.values()))

    def to_json(self) -> str:
        """The counts as JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "EntityCounts":
        """Read the counts that `to_json` wrote.

        Raises:
            DataError: on any other text.
        """
        try:
            counts = cls(**json.loads(text))
        except (ValueError, TypeError):
            raise DataError("entity counts: not JSON of this version: write it with to_json") from None
        by_type = (counts.true_positive, counts.false_positive, counts.false_negative)
        numbers = [n for part in by_type for n in (part.values() if isinstance(part, dict) else (None,))]
        if not all(type(n) is int and n >= 0 for n in (*numbers, counts.words, counts.words_right)):
            raise DataError("entity counts: expected whole numbers of 0 or more")
        return counts


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
        return _ratio(self.right, self.tokens)

    @property
    def perplexity(self) -> float:
        """exp(mean loss a token): among how many equally likely tokens the model still wavers. Lower is better."""
        return math.exp(min(_ratio(self.loss, self.tokens), 700.0))


AnyCounts = ConfusionMatrix | EntityCounts | TokenCounts


def total(parts: Sequence[AnyCounts]) -> AnyCounts:
    """The counts of the whole from those of its parts, which are all of one kind.

    Raises:
        DataError: there is no part, or parts of two kinds.
    """
    sequence = [part for part in parts if isinstance(part, ConfusionMatrix)]
    entity = [part for part in parts if isinstance(part, EntityCounts)]
    words = [part for part in parts if isinstance(part, TokenCounts)]
    if sequence and not entity and not words:
        return functools.reduce(operator.add, sequence)
    if entity and not sequence and not words:
        return functools.reduce(operator.add, entity)
    if words and not sequence and not entity:
        return functools.reduce(operator.add, words)
    raise DataError("counts: no parts, or parts of different tasks: they have no total")


def headline(counts: AnyCounts) -> dict[str, float]:
    """The figures every report opens with: accuracy, weighted and macro F1. For entities also the micro F1.

    Of a language model: accuracy and perplexity.
    """
    if isinstance(counts, TokenCounts):
        return {"accuracy": counts.accuracy, "perplexity": counts.perplexity}
    figures = {"accuracy": counts.accuracy, "weighted_f1": counts.weighted_f1, "macro_f1": counts.macro_f1}
    return figures | {"entity_f1": counts.entity_f1} if isinstance(counts, EntityCounts) else figures


_WORD = re.compile(r"[^\W_]+")


def rouge_l(pairs: Iterable[tuple[str, str]]) -> float:
    """Mean ROUGE-L F1 of (reference, candidate) texts: lower-cased words, no stemming (Lin 2004). 0 for no pairs."""
    scores = []
    for reference, candidate in pairs:
        expected, given = _WORD.findall(reference.lower()), _WORD.findall(candidate.lower())
        common = _longest_common(expected, given)
        scores.append(_f1(common, len(given) - common, len(expected) - common))
    return _ratio(sum(scores), len(scores))


def _longest_common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as bits of one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << position
    ones = (1 << len(left)) - 1
    row = ones
    for word in right:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & ones
    return len(left) - row.bit_count()

"""Entities in IOB-tagged words, and the counts and metrics of entities that a model found."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from common.errors import DataError
from common.evaluation import ratios
from common.evaluation.ratios import ratio

__all__ = ["EntityCounts", "entities"]

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
        return ratio(self.words_right, self.words)

    def f1(self, kind: str) -> float:
        """F1 of the entities of one type."""
        return ratios.f1(
            *(counts.get(kind, 0) for counts in (self.true_positive, self.false_positive, self.false_negative))
        )

    @property
    def precision(self) -> float:
        """Share of claimed entities that are real."""
        hits = sum(self.true_positive.values())
        return ratio(hits, hits + sum(self.false_positive.values()))

    @property
    def recall(self) -> float:
        """Share of real entities that were found."""
        hits = sum(self.true_positive.values())
        return ratio(hits, hits + sum(self.false_negative.values()))

    @property
    def entity_f1(self) -> float:
        """Micro F1 over all entities: the figure usually quoted."""
        return ratios.f1(*(sum(c.values()) for c in (self.true_positive, self.false_positive, self.false_negative)))

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of every type that occurs."""
        return ratio(sum(self.f1(kind) for kind in self.types), len(self.types))

    @property
    def weighted_f1(self) -> float:
        """F1 of each type, weighted by how many real entities are of it."""
        support = {kind: self.true_positive.get(kind, 0) + self.false_negative.get(kind, 0) for kind in self.types}
        return ratio(sum(n * self.f1(kind) for kind, n in support.items()), sum(support.values()))

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

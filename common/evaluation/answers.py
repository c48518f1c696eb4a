"""Texts that a model wrote, compared with the expected ones: as labels of a small closed set, or by ROUGE-L."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.evaluation.ratios import f1, ratio
from common.spelling import plain_answer

__all__ = ["Answer", "ResponseCounts", "label_sets", "rouge_l"]

_MOST_LABELS, _MOST_WORDS = 200, 8
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Answer:
    """An expected text and the text that the model wrote.

    Attributes:
        expected: The response of the row.
        written: The response of the model.
        kind: Rows of one kind share their instruction, and may share a set of labels. None: the text is no label.
        allowed: The declared answers of its kind. Empty if none are declared.
    """

    expected: str
    written: str
    kind: str | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResponseCounts:
    """A model's responses to the prompts of a test set.

    Attributes:
        tokens, right, loss: Tokens of the expected responses, how many of them were the likeliest, and their summed
            loss (nats).
        answers: The responses that the model wrote. Empty if it wrote none.
    """

    tokens: int
    right: int
    loss: float
    answers: tuple[Answer, ...] = ()

    def __add__(self, other: "ResponseCounts") -> "ResponseCounts":
        return ResponseCounts(
            self.tokens + other.tokens, self.right + other.right, self.loss + other.loss, self.answers + other.answers
        )

    @property
    def perplexity(self) -> float:
        """exp(mean loss a token) of the expected responses. Lower is better."""
        return math.exp(min(ratio(self.loss, self.tokens), 700.0))

    def figures(self) -> dict[str, float]:
        """Return the metrics by name.

        `accuracy` is the share of the answers that are the expected ones, without regard to case, blanks and a final
        full stop. Of answers that are labels (see `label_sets`) also `macro_f1`, the mean F1 of all labels that are
        expected, and `valid_answers`, the share of the answers that are one of the labels. Of other answers `rouge_l`.
        If the answers of several kinds are declared, the first three also of each, after the name of the kind.
        """
        found = {"perplexity": self.perplexity}
        if not self.answers:
            return found
        found |= _judged(self.answers)
        declared = sorted({each.kind for each in self.answers if each.kind and each.allowed})
        for kind in declared if len({each.kind for each in self.answers}) > 1 else ():
            own = _judged([each for each in self.answers if each.kind == kind])
            found |= {f"{kind} {name.replace('_', ' ').replace('f1', 'F1')}": value for name, value in own.items()}
        return found


def _judged(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the figures of `ResponseCounts.figures` that the written texts decide."""
    found = {"accuracy": ratio(sum(_same(each) for each in answers), len(answers))}
    sets = label_sets(answers)
    labels = [each for each in answers if each.kind in sets]
    free = [each for each in answers if each.kind not in sets]
    if labels:
        found["macro_f1"] = _macro_f1(labels)
        valid = sum(plain_answer(each.written) in sets[each.kind or ""] for each in labels)
        found["valid_answers"] = ratio(valid, len(labels))
    if free:
        found["rouge_l"] = rouge_l((each.expected, each.written) for each in free)
    return found


def label_sets(answers: Sequence[Answer]) -> Mapping[str, frozenset[str]]:
    """Return the labels of each kind of question whose expected answers form a small closed set.

    If the answers of a kind are declared, these are its labels. Otherwise the expected answers are, if there are 2 to
    200 of them, none has more than eight words, and each occurs twice on average.

    >>> told = [Answer(label, "up", "Did it rise?") for label in ("Up", "down", "up", "down.")]
    >>> {kind: sorted(labels) for kind, labels in label_sets(told).items()}
    {'Did it rise?': ['down', 'up']}
    """
    expected: dict[str, list[str]] = {}
    for each in answers:
        if each.kind is not None:
            expected.setdefault(each.kind, []).append(each.expected)
    declared = {each.kind: each.allowed for each in answers if each.kind and each.allowed}
    found = {kind: frozenset(map(plain_answer, allowed)) for kind, allowed in declared.items()}
    for kind, texts in expected.items():
        if kind in found:
            continue
        labels = frozenset(map(plain_answer, texts))
        short = all(len(text.split()) <= _MOST_WORDS for text in texts)
        if short and 2 <= len(labels) <= _MOST_LABELS and len(texts) >= 2 * len(labels):
            found[kind] = labels
    return found


def _same(answer: Answer) -> bool:
    return plain_answer(answer.expected) == plain_answer(answer.written)


def _macro_f1(answers: Sequence[Answer]) -> float:
    """Mean F1 of the labels of all kinds. A written text that is no label is a miss of the expected one."""
    pairs = [(each.kind, plain_answer(each.expected), plain_answer(each.written)) for each in answers]
    expected = Counter((kind, label) for kind, label, _ in pairs)
    written = Counter((kind, label) for kind, _, label in pairs)
    hits = Counter((kind, label) for kind, label, own in pairs if label == own)
    figures = [f1(hits[each], written[each] - hits[each], count - hits[each]) for each, count in expected.items()]
    return ratio(sum(figures), len(figures))


def rouge_l(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the mean ROUGE-L F1 of (reference, candidate) texts: lower-cased words, no stemming (Lin 2004).

    >>> rouge_l([("Profit rose sharply", "profit rose")])
    0.8
    """
    scores = []
    for reference, candidate in pairs:
        expected, given = _WORD.findall(reference.lower()), _WORD.findall(candidate.lower())
        common = _longest_common(expected, given)
        scores.append(f1(common, len(given) - common, len(expected) - common))
    return ratio(sum(scores), len(scores))


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

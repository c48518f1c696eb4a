"""Four synthetic banks, whose headlines a grammar writes.

The headlines are made to tell a language model from a count of words. Most wordings of the test occur in no training
row, and the banks word the same facts differently. The distance between the two kinds of model here says nothing about
real text. The benchmarks measure that.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial

from common.data.datasets import Dataset, Example, merge
from common.errors import ConfigurationError
from simulation.grammar import Grammar
from simulation.partition import Federation
from simulation.wordings import BANKS, RISK, SENTIMENT, SHARED

__all__ = ["synthetic_banks"]

KEPT = 0.8
"""Share of the test's wordings that no training row uses."""
LABEL_NOISE = 0.04
"""Share of training labels that are replaced by another label. The test has none."""
TRAIN_ROWS = {"retail_bank": 2400, "commodities_desk": 1600, "corporate_bank": 1200, "fund_house": 800}
TEST_ROWS = 200
"""Test rows of each bank: equal numbers, so that a small bank counts as much as a large one."""

SYNTHETIC: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, tuple[int, ...]]]] = {
    "sentiment_analysis": (
        ("negative", "neutral", "positive"),
        SENTIMENT,
        {
            "retail_bank": (15, 60, 25),
            "commodities_desk": (50, 30, 20),
            "corporate_bank": (15, 35, 50),
            "fund_house": (30, 45, 25),
        },
    ),
    "risk_classification": (
        ("very_low", "low", "medium", "high", "very_high"),
        RISK,
        {
            "retail_bank": (25, 30, 30, 10, 5),
            "commodities_desk": (5, 15, 35, 30, 15),
            "corporate_bank": (10, 20, 50, 15, 5),
            "fund_house": (5, 10, 45, 20, 20),
        },
    ),
}
"""By task: labels, grammar, and each bank's label weights in the order of the labels. Every bank has other weights."""


def synthetic_banks(seed: int, task: str = "sentiment_analysis") -> Federation:
    """Return four banks with 800 to 2,400 training headlines each, and 200 test headlines of each bank.

    No headline occurs twice, in training and test together.

    Args:
        seed: Equal seeds give equal headlines.
        task: "sentiment_analysis" or "risk_classification".

    Raises:
        ConfigurationError: There is no grammar for `task`.
    """
    if task not in SYNTHETIC:
        known = ", ".join(sorted(SYNTHETIC))
        raise ConfigurationError(f'task.name: no synthetic banks for "{task}": use {known}, or real data')
    labels, rules, weights = SYNTHETIC[task]
    used: set[str] = set()
    train: dict[str, Dataset] = {}
    test: dict[str, Dataset] = {}
    for hand, (bank, vocabulary) in enumerate(BANKS.items()):
        grammar = Grammar(SHARED | rules | vocabulary)
        rng = random.Random(f"{seed}|{task}|{bank}")  # noqa: S311 - headlines, not secrets
        draw = partial(_draw, labels=labels, weights=weights[bank], rng=rng, used=used)
        rows = draw(TRAIN_ROWS[bank], partial(grammar.train, rng=rng, hand=hand, hands=len(BANKS)))
        train[bank] = Dataset(tuple(_mislabel(row, len(labels), rng) for row in rows), labels, bank)
        test[bank] = Dataset(tuple(draw(TEST_ROWS, partial(grammar.test, rng=rng, kept=KEPT))), labels, bank)
    return Federation(train, merge(list(test.values()), "test"), test)


def _draw(
    rows: int,
    word: Callable[[str], str],
    *,
    labels: Sequence[str],
    weights: Sequence[int],
    rng: random.Random,
    used: set[str],
) -> list[Example]:
    drawn: list[Example] = []
    while len(drawn) < rows:
        label = rng.choices(range(len(labels)), weights)[0]
        text = word(labels[label])
        if text not in used:
            used.add(text)
            drawn.append(Example(text, label))
    return drawn


def _mislabel(example: Example, labels: int, rng: random.Random) -> Example:
    if rng.random() >= LABEL_NOISE:
        return example
    return Example(example.text, rng.choice([label for label in range(labels) if label != example.label]))

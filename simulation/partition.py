"""The institutions of a simulation: four synthetic banks, or a real data set split by a column or by label skew.

The synthetic headlines come from a grammar of ours. They are made to tell a language model from a count of words:
most of the test's wordings occur in no training row, and banks word alike things differently. How far the two lie
apart here says nothing about real text; the benchmarks measure that.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.data.corpora import read_corpus
from common.data.datasets import (
    AnyExample,
    Dataset,
    Example,
    SummaryExample,
    TokenExample,
    examples_of,
    labels_of,
    merge,
    read_conll_documents,
    validate,
)
from common.data.tables import read_rows
from common.errors import ConfigurationError, DataError
from simulation.grammar import Grammar
from simulation.wordings import BANKS, RISK, SENTIMENT, SHARED

if TYPE_CHECKING:
    from simulation.config import DataConfig

__all__ = [
    "HUB",
    "Federation",
    "dirichlet_split",
    "load_federation",
    "split_by_column",
    "split_test",
    "synthetic_banks",
]

MIN_ROWS = 10  # of an institution that a Dirichlet split makes
HUB = "all"  # the one part of a test set whose rows belong to no institution
KEPT = 0.8  # share of the test's wordings that no training row uses
LABEL_NOISE = 0.04  # share of training labels replaced by another one; the test has none
TRAIN_ROWS = {"retail_bank": 2400, "commodities_desk": 1600, "corporate_bank": 1200, "fund_house": 800}
TEST_ROWS = 200  # of each bank, so that a small bank counts as much as a large one

# Label set, grammar, and each bank's label weights in the label set's order: every bank sees another part of the world.
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


@dataclass(frozen=True)
class Federation:
    """Training data by institution, and the hub's test set: whole, and in parts that together are the whole."""

    train: Mapping[str, Dataset]
    test: Dataset
    test_by_institution: Mapping[str, Dataset]


def synthetic_banks(seed: int, task: str = "sentiment_analysis") -> Federation:
    """Four banks with 800 to 2,400 training headlines each, and 200 test headlines of each bank.

    The same seed gives the same headlines; no headline occurs twice, in training and test together.

    Raises:
        ConfigurationError: there is no grammar for `task`.
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


@dataclass(frozen=True)
class _Row:
    """A row with its number in its file, for messages."""

    number: int
    values: dict[str, str]


def split_by_column(rows: Sequence[_Row], column: str, name: str) -> dict[str, list[_Row]]:
    """Rows by institution; a name becomes a directory's name, so it is reduced to letters, digits and "_".

    Raises:
        DataError: an empty name, or two names that are reduced to the same one.
    """
    parts: dict[str, list[_Row]] = defaultdict(list)
    origin: dict[str, str] = {}
    for row in rows:
        value = row.values[column].strip()
        short = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_")[:48]
        if not short:
            raise DataError(f'{name}: row {row.number}, column "{column}" names no institution: use letters or digits')
        if origin.setdefault(short, value) != value:
            raise DataError(f'{name}: row {row.number}, column "{column}" differs from "{short}" in punctuation only')
        parts[short].append(row)
    return dict(sorted(parts.items()))


def dirichlet_split(dataset: Dataset, institutions: int, alpha: float | None, seed: int) -> dict[str, Dataset]:
    """Deal the examples out: each label's shares are drawn from Dirichlet(alpha) (arXiv 1909.06335); None = evenly.

    A sentence of words counts under its first entity. The smaller alpha, the more the institutions differ.

    Raises:
        ConfigurationError: after many draws an institution still has fewer than 10 examples.
    """
    if institutions < 1 or len(dataset) < institutions * MIN_ROWS:
        raise ConfigurationError(
            f"data.institutions: {institutions} need {MIN_ROWS} rows each, {dataset.name} has {len(dataset)}"
        )
    rng = np.random.default_rng(seed)
    groups: dict[int, list[int]] = defaultdict(list)
    for position, example in enumerate(dataset.examples):
        groups[0 if alpha is None else _skew_label(example)].append(position)
    for _ in range(200):
        hands: list[list[int]] = [[] for _ in range(institutions)]
        for _, members in sorted(groups.items()):
            shares = np.full(institutions, 1 / institutions) if alpha is None else rng.dirichlet([alpha] * institutions)
            cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
            for hand, part in zip(hands, np.split(rng.permutation(members), cuts), strict=True):
                hand.extend(int(position) for position in part)
        if min(map(len, hands)) >= MIN_ROWS:
            names = [f"institution_{number:0{len(str(institutions))}}" for number in range(1, institutions + 1)]
            return {
                name: replace(dataset, examples=tuple(dataset.examples[p] for p in sorted(hand)), name=name)
                for name, hand in zip(names, hands, strict=True)
            }
    raise ConfigurationError(
        f"data.dirichlet_alpha: {alpha} leaves an institution fewer than {MIN_ROWS} rows: raise it, or ask for fewer"
    )


def _skew_label(example: AnyExample) -> int:
    if isinstance(example, SummaryExample):
        return 0
    return example.label if isinstance(example, Example) else max(example.labels)


def load_federation(
    cfg: "DataConfig", labels: Sequence[str], head: str, *, task: str = "sentiment_analysis", seed: int = 0
) -> Federation:
    """The data a simulation runs on; `labels` empty = those of the training rows; `head` is a `common.tasks.Head`.

    A test set of its own file, or rows that were dealt out at random, belong to no institution: one part "all".

    Raises:
        ConfigurationError: settings that do not say how to split the data, or a task without data for it.
        DataError: anything wrong with a file; see `common.data.datasets`.
    """
    if cfg.source == "synthetic":
        banks = synthetic_banks(seed, task)
        if labels and tuple(labels) != banks.test.labels:
            raise ConfigurationError(
                f"task.labels: the synthetic banks have {', '.join(banks.test.labels)}: leave it out"
            )
        return banks
    if cfg.train is None:
        raise ConfigurationError('data.train is missing: give the path of a data file, or source = "synthetic"')
    match head:
        case "sequence":
            return _sequences(cfg, cfg.train, tuple(labels), seed)
        case "token":
            return _sentences(cfg, cfg.train, tuple(labels), seed)
        case "masked" | "causal":
            return _texts(cfg, cfg.train, seed)
        case _:
            raise ConfigurationError(f'task.name: "{task}" cannot be simulated: choose one that labels texts or words')


def _sequences(cfg: "DataConfig", source: Path, labels: tuple[str, ...], seed: int) -> Federation:
    train, test = _read(cfg, source, (cfg.text_column, cfg.label_column), seed)
    known = labels or labels_of(row.values[cfg.label_column] for row in train)
    train_name, test_name = str(source), str(cfg.test or source)

    def dataset(rows: Sequence[_Row], name: str, customer: str | None = None) -> Dataset:
        numbers, values = [row.number for row in rows], [row.values for row in rows]
        return examples_of(values, cfg.text_column, cfg.label_column, known, name, numbers, customer)

    pooled, hub = dataset(train, train_name, cfg.customer_column), dataset(test, test_name)
    validate(pooled)
    if not test:
        raise DataError(f"{test_name}: no rows are left for the test: raise data.test_fraction or name a test file")
    if cfg.institution_column is None:
        return Federation(dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed), hub, {HUB: hub})
    parts = {
        name: replace(dataset(rows, train_name, cfg.customer_column), name=name)
        for name, rows in split_by_column(train, cfg.institution_column, train_name).items()
    }
    if cfg.test is not None:
        return Federation(parts, hub, {HUB: hub})
    of_test = split_by_column(test, cfg.institution_column, test_name)
    return Federation(parts, hub, {n: replace(dataset(rows, test_name), name=n) for n, rows in of_test.items()})


def _texts(cfg: "DataConfig", source: Path, seed: int) -> Federation:
    """Text without labels; the test may be any corpus that `read_corpus` reads."""
    train, test = _read(replace(cfg, test=None), source, (cfg.text_column,), seed)
    if cfg.test is not None:
        test = [_Row(number, {cfg.text_column: text}) for number, text in enumerate(read_corpus(cfg.test), start=1)]
    if not test:
        raise DataError(f"{source}: no texts are left for the test: raise data.test_fraction or name a test file")

    def dataset(rows: Sequence[_Row], name: str, customer: str | None = None) -> Dataset:
        filled = [row for row in rows if row.values[cfg.text_column].strip()]
        for row in filled if customer else []:
            if not row.values[str(customer)].strip():
                raise DataError(f'{source}: row {row.number}, column "{customer}" is empty: fill it or leave it out')
        texts = [
            (row.values[cfg.text_column].strip(), row.values[customer].strip() if customer else None) for row in filled
        ]
        return Dataset(tuple(Example(text, 0, whose) for text, whose in texts), (), name)

    pooled, hub = dataset(train, str(source), cfg.customer_column), dataset(test, str(cfg.test or source))
    validate(pooled)
    if cfg.institution_column is None:
        return Federation(dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed), hub, {HUB: hub})
    column = cfg.institution_column
    named = split_by_column(train, column, str(source))
    parts = {name: dataset(rows, name, cfg.customer_column) for name, rows in named.items()}
    if cfg.test is not None:
        return Federation(parts, hub, {HUB: hub})
    of_test = {name: dataset(rows, name) for name, rows in split_by_column(test, column, str(source)).items()}
    return Federation(parts, hub, of_test)


def _read(cfg: "DataConfig", source: Path, wanted: Sequence[str], seed: int) -> tuple[list[_Row], list[_Row]]:
    optional = (cfg.customer_column, cfg.institution_column, cfg.split_column)
    extra = [column for column in optional if column is not None]
    rows = [_Row(number, row) for number, row in enumerate(read_rows(source, [*wanted, *extra]), start=1)]
    if cfg.test is not None:
        kept = [row for row in rows if not _is_test_value(cfg, row)]
        return kept, [_Row(number, row) for number, row in enumerate(read_rows(cfg.test, wanted), start=1)]
    if cfg.split_column is None:
        chosen = [_in_test(row.values[cfg.text_column].strip(), cfg.test_fraction, seed) for row in rows]
    else:
        for row in rows:
            if cfg.test_values is None and row.values[cfg.split_column].strip() not in {"train", "test"}:
                raise DataError(f'{source}: row {row.number}, column "{cfg.split_column}" is neither train nor test')
        chosen = [_is_test_value(cfg, row) for row in rows]
    return (
        [row for row, testing in zip(rows, chosen, strict=True) if not testing],
        [row for row, testing in zip(rows, chosen, strict=True) if testing],
    )


def _is_test_value(cfg: "DataConfig", row: _Row) -> bool:
    return cfg.split_column is not None and row.values[cfg.split_column].strip() in (cfg.test_values or ("test",))


def _in_test(text: str, fraction: float, seed: int) -> bool:
    """By the text's hash: the same text never lands on both sides, and no other row's presence matters."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:8]) < fraction * 2**64


def split_test(dataset: Dataset, fraction: float, seed: int, name: str) -> tuple[Dataset, Dataset]:
    """Split `dataset` into training rows and about `fraction` test rows, both called `name`, by each text's hash."""
    sides: tuple[list[AnyExample], list[AnyExample]] = ([], [])
    for example in dataset.examples:
        text = " ".join(example.words) if isinstance(example, TokenExample) else example.text
        sides[_in_test(text, fraction, seed)].append(example)
    train, test = (replace(dataset, examples=tuple(side), name=name) for side in sides)
    return train, test


def _sentences(cfg: "DataConfig", source: Path, labels: tuple[str, ...], seed: int) -> Federation:
    """CoNLL files; their documents are the institutions where institution_column = "document"."""
    documents = read_conll_documents(source, labels)
    known = documents[0].labels
    if cfg.test is not None:
        test = merge(read_conll_documents(cfg.test, known), str(cfg.test))
    else:
        sides = [split_test(document, cfg.test_fraction, seed, document.name) for document in documents]
        documents = tuple(train for train, _ in sides if train.examples)
        test = merge([held_out for _, held_out in sides], str(source))
    pooled = merge(documents, str(source))
    validate(pooled)
    if not len(test):
        raise DataError(f"{source}: no sentences are left for the test: raise data.test_fraction or name a test file")
    if cfg.institution_column is None:
        train = dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed)
    elif cfg.institution_column == "document":
        train = {document.name: document for document in documents}
    else:
        raise ConfigurationError(
            'data.institution_column: CoNLL files have no columns: use "document", or institutions'
        )
    return Federation(train, test, {HUB: test})

"""Divide rows among the institutions of a simulation: by a column, at random, or with a label skew."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.data.datasets import AnyExample, Dataset, Example, SummaryExample, TokenExample
from common.errors import ConfigurationError, DataError

__all__ = ["HUB", "Federation", "Row", "dirichlet_split", "in_test", "split_by_column", "split_test"]

MIN_ROWS = 10
"""Fewest rows of an institution that a Dirichlet split makes."""
HUB = "all"
"""Name of the only part of a test set whose rows belong to no institution."""


@dataclass(frozen=True)
class Federation:
    """The training rows of each institution, and the hub's test rows as a whole and in parts."""

    train: Mapping[str, Dataset]
    test: Dataset
    test_by_institution: Mapping[str, Dataset]


@dataclass(frozen=True)
class Row:
    """A row of a table with its number in the file, for messages."""

    number: int
    values: dict[str, str]


def split_by_column(rows: Sequence[Row], column: str, name: str) -> dict[str, list[Row]]:
    """Return the rows of each institution. Names become directories, so they keep only letters, digits and "_".

    Args:
        rows: All rows.
        column: The column that names the institution.
        name: Name of the file, for messages.

    Raises:
        DataError: A name is empty, or two names become the same one.
    """
    parts: dict[str, list[Row]] = defaultdict(list)
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
    """Divide the examples at random: each label's shares are drawn from Dirichlet(alpha) (arXiv 1909.06335).

    Args:
        dataset: All examples. A token example counts under its largest tag.
        institutions: Number of parts.
        alpha: The smaller, the more the institutions differ. None divides evenly.
        seed: Equal seeds give equal parts.

    Raises:
        ConfigurationError: After 200 draws an institution still has fewer than 10 examples.
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


def in_test(text: str, fraction: float, seed: int) -> bool:
    """Return whether a text is held out, by its hash. Equal texts are on one side, whatever other rows there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:8]) < fraction * 2**64


def split_test(dataset: Dataset, fraction: float, seed: int, name: str) -> tuple[Dataset, Dataset]:
    """Split `dataset` into training rows and about `fraction` test rows, both called `name`, by each text's hash."""
    sides: tuple[list[AnyExample], list[AnyExample]] = ([], [])
    for example in dataset.examples:
        text = " ".join(example.words) if isinstance(example, TokenExample) else example.text
        sides[in_test(text, fraction, seed)].append(example)
    train, test = (replace(dataset, examples=tuple(side), name=name) for side in sides)
    return train, test

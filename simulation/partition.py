"""Divide rows among the institutions of a simulation: by a column, at random, or with a label skew."""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from common.data.datasets import AnyExample, Dataset, Example, ResponseExample, TokenExample, merge, text_of
from common.data.records import Record, Records
from common.data.splits import remove_test_rows
from common.errors import ConfigurationError, DataError
from common.spelling import clean_label

__all__ = [
    "HUB",
    "Federation",
    "dirichlet_split",
    "in_test",
    "institution_names",
    "leave_test_rows_out",
    "split_by_column",
    "split_test",
]

MIN_ROWS = 10
"""Fewest rows of an institution that a Dirichlet split makes."""
MAX_NAME = 48
"""Most characters of an institution's name."""
_ACCENT = re.compile("[\u0300-\u036f]")
HUB = "all"
"""Name of the only part of a test set whose rows belong to no institution."""


@dataclass(frozen=True)
class Federation:
    """The training rows of each institution, and the hub's test rows as a whole and in parts.

    Attributes:
        names: By name of an institution, its name in the data if that is another.
        notes: Facts about the rows that a reader of the figures should know, one sentence each.
    """

    train: Mapping[str, Dataset]
    test: Dataset
    test_by_institution: Mapping[str, Dataset]
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def institution_names(rows: Iterable[Record], column: str) -> dict[str, str]:
    """Return a name of letters a-z, digits and "_" for each value of a column, because the names become directories.

    A value in another script, or one that would get the name of another, gets a number: "institution_2".

    Raises:
        DataError: A value has no letter and no digit, or differs from another by case or punctuation only.
    """
    short: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for row in rows:
        value = clean_label(row.other[column])
        if value in short:
            continue
        key = "".join(each for each in unicodedata.normalize("NFKC", value).casefold() if _is_spoken(each))
        plain = _ACCENT.sub("", unicodedata.normalize("NFKD", value).casefold())
        if not key:
            raise DataError(f"{row.where(column)} names no institution: use letters or digits")
        name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:MAX_NAME]
        first = spelled.setdefault(key, value)
        if first != value:
            called = f'"{short[first]}"' if short[first] else "the name of an earlier row"
            raise DataError(f"{row.where(column)} differs from {called} by case or punctuation only: spell it alike")
        is_whole = all(each.isascii() for each in plain if _is_spoken(each))
        short[value] = name if is_whole else ""
    counts = Counter(short.values())
    taken = {name for name, count in counts.items() if name and count == 1}
    numbers = (f"institution_{number}" for number in itertools.count(1))
    free = (name for name in numbers if name not in taken)
    return {value: name if name in taken else next(free) for value, name in sorted(short.items())}


def _is_spoken(character: str) -> bool:
    """Return whether a character is a letter, a digit or a mark on one."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def split_by_column(records: Records, column: str, names: Mapping[str, str]) -> dict[str, Records]:
    """Return the rows of each institution, by the name that `institution_names` gives to its value in a column."""
    parts: dict[str, list[Record]] = defaultdict(list)
    for row in records.rows:
        parts[names[clean_label(row.other[column])]].append(row)
    return {name: replace(records, rows=tuple(rows), num_blank=0) for name, rows in sorted(parts.items())}


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
    if isinstance(example, ResponseExample):
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


def leave_test_rows_out(federation: Federation) -> Federation:
    """Leave out the training rows whose text is in the test rows, and note how many they are.

    Also notes how many texts several institutions have. A simulation sees all rows, so that it can count them.

    Raises:
        DataError: More than half of the test texts are training texts, or an institution has no other rows.
    """
    notes = list(federation.notes)
    whole = merge(tuple(federation.train.values()), "training rows")
    _, removed = remove_test_rows(whole, federation.test)
    train = federation.train
    if removed:
        tested = {text_of(example) for example in federation.test.examples}
        train = {
            name: replace(rows, examples=tuple(each for each in rows.examples if text_of(each) not in tested))
            for name, rows in train.items()
        }
        for name, rows in train.items():
            if not len(rows):
                raise DataError(f"{name}: all of its rows are test rows: give other test rows, or leave it out")
        notes.append(f"{removed} training rows have a text of the test rows, and are left out of the training.")
    holders = Counter(text for rows in train.values() for text in {text_of(example) for example in rows.examples})
    if shared := sum(count > 1 for count in holders.values()):
        notes.append(f"{shared} of {len(holders)} different training texts are held by more than one institution.")
    return replace(federation, train=train, notes=tuple(notes))

"""Rows that must not be on both sides: test rows leave the training, and rows are held out to choose the epoch by."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.data.datasets import Dataset, Example, text_of, validate
from common.errors import DataError

__all__ = ["FEWEST_HELD_OUT", "hold_out", "remove_test_rows", "validate_split"]

_MOST_HELD_OUT = 1000
FEWEST_HELD_OUT = 50
"""Fewest rows to choose an epoch by. With 30 rows of 77 labels a training stopped after 6 epochs at a loss of 1.6."""
_FEWEST_TO_SHARE = 3
"""Fewest rows of a label from which one may be held out."""


def remove_test_rows(train: Dataset, test: Dataset, allow_repeats: bool = False) -> tuple[Dataset, int]:
    """Leave out the training rows whose text is in the test rows, so that no test row is trained on.

    Args:
        train: Training rows.
        test: Test rows.
        allow_repeats: Whether many test texts may be training texts, as pieces of filings that repeat each other are.

    Returns:
        The other training rows, and the number of rows that were left out.

    Raises:
        DataError: More than half of the test texts are training texts, which is a mistake and no coincidence.
    """
    measured = {text_of(example) for example in test.examples}
    known = {text_of(example) for example in train.examples}
    if not allow_repeats and 2 * len(measured & known) > len(measured):
        raise DataError(
            f"{test.name}: {len(measured & known)} of its {len(measured)} different texts are among the training rows: "
            "give a test set of other rows"
        )
    kept = tuple(example for example in train.examples if text_of(example) not in measured)
    return replace(train, examples=kept), len(train) - len(kept)


def hold_out(train: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Hold out rows to choose the epoch by. Rows with equal texts stay on one side.

    Args:
        train: Training rows.
        share: Share of the rows to hold out, of each label alike. At most 1,000 rows are held out.
        seed: Of the draw.

    Returns:
        The rows to train on, and the rows that are held out. None if these would be fewer than 50.
    """
    wanted = min(round(share * len(train)), _MOST_HELD_OUT)
    if wanted < FEWEST_HELD_OUT:
        return train, None
    groups: dict[object, list[int]] = {}
    for index, example in enumerate(train.examples):
        groups.setdefault(text_of(example), []).append(index)
    kinds: dict[object, list[list[int]]] = {}
    for rows in groups.values():
        kinds.setdefault(_kind(train, rows[0]), []).append(rows)
    generator = np.random.default_rng([seed, 1])
    held: set[int] = set()
    counts = _quotas([len(rows_of_kind) for rows_of_kind in kinds.values()], wanted / len(train), generator)
    for rows_of_kind, count in zip(kinds.values(), counts, strict=True):
        for index in generator.permutation(len(rows_of_kind))[:count]:
            held.update(rows_of_kind[int(index)])
    return _part(train, [i for i in range(len(train)) if i not in held]), _part(train, sorted(held))


def _quotas(sizes: Sequence[int], share: float, generator: np.random.Generator) -> list[int]:
    """Return how many rows of each kind to hold out, in proportion. Remainders go to the largest fractions."""
    exact = np.array([size * share if size >= _FEWEST_TO_SHARE else 0.0 for size in sizes])
    counts = np.floor(exact).astype(np.int64)
    order = np.lexsort((generator.permutation(len(sizes)), counts - exact))
    counts[order[: round(float(exact.sum())) - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _part(dataset: Dataset, rows: Sequence[int]) -> Dataset:
    return replace(dataset, examples=tuple(dataset.examples[index] for index in rows))


def _kind(dataset: Dataset, index: int) -> object:
    """Return the kind of a row, of which both sides get a share: its label, or the set of a sentence's tags."""
    example = dataset.examples[index]
    return example.label if isinstance(example, Example) else frozenset(getattr(example, "labels", ()))


def validate_split(train: Dataset, test: Dataset) -> None:
    """Refuse rows that a model cannot learn from, or that cannot measure it.

    Raises:
        DataError: There are no rows, there is only one label, or the two label sets differ.
    """
    validate(train)
    if not len(test):
        raise DataError(f"{test.name}: there are no examples")
    if test.labels != train.labels:
        raise DataError(
            f"{test.name}: its labels are not those of {train.name}: read it with the training set's labels"
        )

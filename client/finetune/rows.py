"""The rows of a job: read from files, and parted into those that train, that choose the epoch, and that measure."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.data import Dataset, Example, examples_of, labels_of, read_conll, read_rows, read_summaries, validate
from common.errors import ConfigurationError, DataError
from common.figures import plain_label
from common.rows import read_text
from common.tasks import Head, Task

__all__ = ["check", "hold_out", "read_label_file", "read_labelled", "without"]

_MOST_HELD_OUT = 1000
_FEWEST_HELD_OUT = 20


def read_labelled(
    task: Task, path: Path, text_column: str = "text", label_column: str = "label", labels: Sequence[str] = ()
) -> Dataset:
    """Rows of `task` from a CSV, JSONL or Parquet file, or from a CoNLL file where words are labelled.

    Without `labels`, the file's own become the label set: in the task's order where they are its labels (whatever
    their case), else by number or by text.

    Raises:
        DataError: one line naming file, row and column; see `common.data`.
    """
    if task.head is Head.MASKED:
        raise ConfigurationError(f"{task.name}: it needs no labels: use `fedfin-institution adapt`")
    if task.head is Head.SUMMARY:
        return read_summaries(path, text_column, label_column)
    if task.head is Head.TOKEN:
        return read_conll(path, labels or None)
    rows = read_rows(path, (text_column, label_column))
    known = tuple(labels) or _in_order(task, [row[label_column] for row in rows if row[label_column].strip()])
    return examples_of(rows, text_column, label_column, known, str(path))


def read_label_file(path: Path) -> tuple[str, ...]:
    """The label set from a text file, one label a line, in the order of the model's outputs.

    Raises:
        DataError: fewer than two labels, or one that is repeated.
    """
    labels = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise DataError(f"{path}: give two or more different labels, one a line")
    return labels


def without(train: Dataset, test: Dataset) -> tuple[Dataset, int]:
    """`train` without the rows whose text is in `test`, and how many they were: what measures is never trained on.

    Raises:
        DataError: most of the test rows are training rows, which is a mistake and not a coincidence.
    """
    measured = {_text(example) for example in test.examples}
    known = {_text(example) for example in train.examples}
    if 2 * len(measured & known) > len(measured):
        raise DataError(
            f"{test.name}: {len(measured & known)} of its {len(measured)} different texts are among the training rows: "
            "give a test set of other rows"
        )
    kept = tuple(example for example in train.examples if _text(example) not in measured)
    return replace(train, examples=kept), len(train) - len(kept)


def hold_out(train: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Part off about `share` of the rows, at most 1,000 and of each label alike; equal texts stay on one side.

    None where fewer than 20 would be held out: too few to choose an epoch by.
    """
    wanted = min(round(share * len(train)), _MOST_HELD_OUT)
    if wanted < _FEWEST_HELD_OUT:
        return train, None
    groups: dict[object, list[int]] = {}
    for index, example in enumerate(train.examples):
        groups.setdefault(_text(example), []).append(index)
    kinds: dict[object, list[list[int]]] = {}
    for rows in groups.values():
        kinds.setdefault(_kind(train, rows[0]), []).append(rows)
    generator = np.random.default_rng([seed, 1])
    held: set[int] = set()
    for rows_of_kind in kinds.values():
        count = round(len(rows_of_kind) * wanted / len(train))
        for index in generator.permutation(len(rows_of_kind))[:count]:
            held.update(rows_of_kind[int(index)])
    return _part(train, [i for i in range(len(train)) if i not in held]), _part(train, sorted(held))


def _part(dataset: Dataset, rows: Sequence[int]) -> Dataset:
    return replace(dataset, examples=tuple(dataset.examples[index] for index in rows))


def _text(example: object) -> object:
    return getattr(example, "words", None) or getattr(example, "text", None)


def _kind(dataset: Dataset, index: int) -> object:
    """What the two sides should be alike in: the label; of a sentence, which tags it holds."""
    example = dataset.examples[index]
    return example.label if isinstance(example, Example) else frozenset(getattr(example, "labels", ()))


def _in_order(task: Task, values: Sequence[str]) -> tuple[str, ...]:
    found = labels_of(values)
    if found and set(found) <= set(task.labels):
        return task.labels
    places = {name: place for place, name in enumerate(task.labels)}
    if found and all(plain_label(label) in places for label in found):
        return tuple(sorted(found, key=lambda label: places[plain_label(label)]))
    return found


def check(train: Dataset, test: Dataset) -> None:
    """Refuse rows that cannot be learned from, or measured on.

    Raises:
        DataError: no rows, one label only, or labels of one that are not the other's.
    """
    validate(train)
    if not len(test):
        raise DataError(f"{test.name}: there are no examples")
    if test.labels != train.labels:
        raise DataError(
            f"{test.name}: its labels are not those of {train.name}: read it with the training set's labels"
        )

"""Read the rows of a job, and hold some out to choose the epoch by."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.data.datasets import (
    Dataset,
    Example,
    TokenExample,
    examples_of,
    iob,
    labels_of,
    read_conll,
    read_rows,
    read_summaries,
    select_labels,
    validate,
)
from common.data.raw_text import read_text
from common.data.tables import class_names, read_lists
from common.errors import ConfigurationError, DataError
from common.evaluation.task_metrics import plain_label
from common.tasks import MULTI_TASK, Task, as_task

__all__ = [
    "FEWEST_HELD_OUT",
    "hold_out",
    "read_label_file",
    "read_labelled",
    "remove_test_rows",
    "validate_split",
]

_MOST_HELD_OUT = 1000
FEWEST_HELD_OUT = 50
"""Fewest rows to choose an epoch by. With 30 rows of 77 labels a training stopped after 6 epochs at a loss of 1.6."""
_FEWEST_TO_SHARE = 3
"""Fewest rows of a label from which one may be held out."""


def read_labelled(
    path: Path | str,
    task: Task | str,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] = (),
    *,
    leave_out_others: bool = False,
) -> Dataset:
    """Read the rows of a task from a CSV, TSV, JSONL or Parquet file.

    If the task labels words, the file is a CoNLL file, or holds lists of words and of tags in JSONL or Parquet.

    If `labels` is empty, the labels of the file become the label set. Their order is the one that Hugging Face
    `datasets` recorded in a Parquet file. Otherwise it is the task's own order, if all labels are among the task's (in
    any case). Otherwise labels are sorted, as numbers or as texts. If the names are known and none of them is a number,
    whole numbers in the file are positions in the list of names.

    Args:
        path: The file.
        task: The task, or its name.
        text_column: Name of the column of texts or words. None takes the first of `task.head.columns`.
        label_column: Name of the column of labels, summaries or tags. None takes the second of `task.head.columns`.
        labels: The label set, in the order of the model's outputs.
        leave_out_others: Whether rows with other labels than `labels` are left out one by one. Otherwise they are an
            error. A private training needs it: an error would depend on the rows.

    Returns:
        The rows, with the label set.

    Raises:
        DataError: One line that names file, row and column.
        ConfigurationError: The task has no rows with labels.
    """
    path, task = Path(path), as_task(task)
    usual = task.head.columns
    text, label = text_column or usual[0], label_column or usual[1]
    if task.head.is_language_modelling:
        raise ConfigurationError(f"{task.name}: it needs no labels: use `fedfin-institution adapt`")
    if task.name == MULTI_TASK:
        raise ConfigurationError("multi_task: it is a federation's: alone, give each task with --strategy multi_task")
    if task.head.writes_text:
        return read_summaries(path, text, label)
    if leave_out_others:
        return _read_declared(path, task, text, label, tuple(labels))
    if task.head.labels_words:
        return _read_tagged(path, text, label, labels)
    rows = read_rows(path, (text, label))
    known = tuple(labels) or class_names(path, label) or ()
    if known:
        rows = [{**row, label: _named(row[label].strip(), known)} for row in rows]
    else:
        known = _in_order(task, [row[label] for row in rows if row[label].strip()])
    return replace(examples_of(rows, text, label, known, str(path)), labels_from_rows=not labels)


def _read_declared(path: Path, task: Task, text: str, label: str, labels: tuple[str, ...]) -> Dataset:
    """Read the rows whose labels are among the declared ones, in any case or as positions in their list.

    Raises:
        DataError: The file cannot be used, or no row has one of the labels.
    """
    if task.head.labels_words:
        every, known = _read_tagged(path, text, label, ()), _tags(labels, "the labels")
        dataset = select_labels(every, known)
    else:
        known = labels
        plain = {plain_label(name): name for name in known} if len(set(map(plain_label, known))) == len(known) else {}
        rows = read_rows(path, (text, label))
        named = [_named(row[label].strip(), known) for row in rows]
        own = [name if name in known else plain.get(plain_label(name), name) for name in named]
        every = examples_of(
            [{**row, label: name} for row, name in zip(rows, own, strict=True)], text, label, None, str(path)
        )
        dataset = select_labels(every, known)
    if not len(dataset):
        raise DataError(f"{path}: no row has one of the labels {', '.join(known)}: name its labels with --labels")
    return dataset


def _read_tagged(path: Path, words_column: str, tags_column: str, labels: Sequence[str]) -> Dataset:
    """Return sentences with a tag for each word. BIOES and BILOU become IOB."""
    suffixes = {suffix.lower() for suffix in path.suffixes}
    known = _tags(labels, "the labels")
    if ".csv" in suffixes:
        raise DataError(
            f"{path}: a table has one label a row: give words and tags as CoNLL (.txt), or lists in *.jsonl"
        )
    if not suffixes & {".jsonl", ".parquet"}:
        return read_conll(path, known or None)
    names = known or _tags(class_names(path, tags_column) or (), str(path))
    sentences = []
    for number, row in enumerate(read_lists(path, (words_column, tags_column)), start=1):
        words, tags = row[words_column], [iob(_named(tag, names)) for tag in row[tags_column]]
        if not words or len(words) != len(tags) or not all(word.strip() for word in words):
            raise DataError(f"{path}: row {number}: give one tag for each word, and no empty word")
        if None in tags or (names and not set(tags) <= set(names)):
            listed = f"one of {', '.join(names)}: correct the row, or leave it out"
            wanted = listed if names else "O, B-type or I-type (numbers need --labels)"
            raise DataError(f'{path}: row {number}, column "{tags_column}" holds a tag that is not {wanted}')
        sentences.append((words, [tag for tag in tags if tag]))
    found = {tag for _, tags in sentences for tag in tags}
    names = names or tuple(sorted(found, key=lambda tag: (tag != "O", tag)))
    place = {tag: index for index, tag in enumerate(names)}
    examples = (TokenExample(tuple(words), tuple(place[tag] for tag in tags)) for words, tags in sentences)
    return Dataset(tuple(examples), names, str(path), labels_from_rows=not known)


def _tags(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """Return labels as IOB tags, in their order.

    Raises:
        DataError: A label is no tag.
    """
    found = [iob(label) for label in labels]
    if None in found:
        raise DataError(f"{source}: not all of them are tags: give O, B-type or I-type")
    return tuple(dict.fromkeys(tag for tag in found if tag))


def _named(label: str, names: Sequence[str]) -> str:
    """Return the name at a position if `label` is one, otherwise `label` itself."""
    if not label.isdecimal() or any(name.isdecimal() for name in names) or int(label) >= len(names):
        return label
    return names[int(label)]


def read_label_file(path: Path) -> tuple[str, ...]:
    """Read the label set from a text file: one label a line, in the order of the model's outputs.

    Raises:
        DataError: There are fewer than two labels, or one is repeated.
    """
    labels = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise DataError(f"{path}: give two or more different labels, one a line")
    return labels


def remove_test_rows(train: Dataset, test: Dataset) -> tuple[Dataset, int]:
    """Leave out the training rows whose text is in the test rows, so that no test row is trained on.

    Returns:
        The other training rows, and the number of rows that were left out.

    Raises:
        DataError: More than half of the test texts are training texts, which is a mistake and no coincidence.
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
        groups.setdefault(_text(example), []).append(index)
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


def _text(example: object) -> object:
    return getattr(example, "words", None) or getattr(example, "text", None)


def _kind(dataset: Dataset, index: int) -> object:
    """Return the kind of a row, of which both sides get a share: its label, or the set of a sentence's tags."""
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

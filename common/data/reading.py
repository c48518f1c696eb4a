"""The reader of rows for every path: fine-tuning alone, an institution's agent, a hub's test set and simulations.

A message names file, row and column, never a value: label and text columns are both an institution's own.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from common.data.datasets import AnyExample, Dataset, Example, ResponseExample, TokenExample
from common.data.labels import LabelSet, iob, label_set
from common.data.records import Columns, Record, Records, read_records, scores_as_classes
from common.errors import ConfigurationError, DataError
from common.spelling import plain_answer
from common.tasks import MULTI_TASK, Head, Task, as_task

__all__ = [
    "labels_of_records",
    "log_notes",
    "read_labelled",
    "reading_notes",
    "refuse_unused_kinds",
    "to_dataset",
]

log = logging.getLogger(__name__)

_SHOWN_NUMBERS = 5
"""Most numbers of which a note says the label."""

_MOST_LISTED = 9


def read_labelled(
    path: Path | str,
    task: Task | str,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] = (),
    *,
    customer_column: str | None = None,
    numbered: Sequence[str] = (),
    leave_out_others: bool = False,
    answers: Mapping[str, Sequence[str]] | None = None,
) -> Dataset:
    """Read the rows of a task from a file of any format, a folder of files, or a pattern such as `train-*.parquet`.

    If the task labels words, the file is a CoNLL file, or holds lists of words and of tags in JSONL, Parquet, Feather
    or Arrow.

    If a file names its labels, as Hugging Face `datasets` does, these names say which label a number stands for. If
    `labels` is empty, the labels of the file become the label set. Their order is that of the file's own names.
    Otherwise it is the task's own order, if all labels are among the task's (in any case). Otherwise labels are sorted,
    as numbers or as texts. Spellings that differ by case, blanks or invisible characters are one label, unless `labels`
    names both. If the names are known and none of them is a number, whole numbers of a file that does not name them
    are positions in the list of names. If the labels are classes of sentiment and the file has scores from -1 to 1,
    each score becomes its class, see `common.data.scores`. A private training leaves the rows with such a score out.

    Args:
        path: The file, folder or pattern.
        task: The task, or its name.
        text_column: Name of the column of texts or words. None takes the first of `task.head.columns`.
        label_column: Name of the column of labels, summaries, responses or tags. None takes the second of
            `task.head.columns`. For the columns of prompts and responses see `common.data.conversations`.
        labels: The label set, in the order of the model's outputs.
        customer_column: Name of the column of the customer, if customers are the unit of privacy.
        numbered: The labels that 0, 1, ... stand for in a file that does not name its numbers. If empty, `labels`.
        leave_out_others: Whether rows with other labels than `labels`, or other answers than `answers`, are left out
            one by one. Otherwise they are an error. A private training needs it: an error would depend on the rows.
        answers: Of instructions, the allowed answers by kind. Kinds that are not named answer freely.

    Returns:
        The rows, with the label set.

    Raises:
        DataError: One line that names file, row and column.
        ConfigurationError: The task has no rows with labels.
    """
    path, task = Path(path), as_task(task)
    if task.head.is_language_modelling:
        raise ConfigurationError(f"{task.name}: it needs no labels: use `fedfin-institution adapt`")
    if task.name == MULTI_TASK:
        raise ConfigurationError("multi_task: it is a federation's: alone, give each task with --strategy multi_task")
    records = read_records(path, task.head, Columns(text=text_column, label=label_column, customer=customer_column))
    if not leave_out_others:
        records = scores_as_classes(records, task.head, labels or task.labels)
    dataset = to_dataset(
        records,
        task.head,
        labels,
        task.labels,
        numbered=numbered,
        leave_out_others=leave_out_others,
        answers=answers or {},
    )
    log_notes(dataset)
    if leave_out_others and not len(dataset):
        if task.head.writes_text:
            raise DataError(f"{path}: no row has one of the declared answers: correct --answers")
        raise DataError(
            f"{path}: no row has one of the labels {', '.join(dataset.labels)}: name its labels with --labels"
        )
    return dataset


def reading_notes(dataset: Dataset) -> list[str]:
    """Return a sentence each on rows that were left out, on other spellings of labels, and on numbers for labels."""
    notes = []
    if dataset.left_out:
        notes.append(f"left out: {', '.join(f'{count:,} {kind}' for kind, count in dataset.left_out.items())}")
    if dataset.respelled:
        notes.append(f"{dataset.respelled:,} rows spell a label in another way and are read as that label")
    if dataset.by_number:
        named = LabelSet(dataset.labels, dataset.numbered).by_number().items()
        shown = ", ".join(f"{number} is {label}" for number, label in list(named)[:_SHOWN_NUMBERS])
        more = ", ..." if len(named) > _SHOWN_NUMBERS else ""
        notes.append(f"{dataset.by_number:,} rows have a number in place of a label: {shown}{more}")
    return notes


def log_notes(dataset: Dataset) -> None:
    """Log the notes on the reading of a data set."""
    for note in reading_notes(dataset):
        log.warning("%s: %s", dataset.name, note)


def to_dataset(
    records: Records,
    head: Head,
    labels: Sequence[str] = (),
    usual: Sequence[str] = (),
    *,
    numbered: Sequence[str] = (),
    leave_out_others: bool = False,
    name: str | None = None,
    answers: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Dataset:
    """Return records as a data set. See `read_labelled` for the order of the labels.

    Args:
        records: The rows.
        head: Kind of the task.
        labels, numbered, leave_out_others, answers: See `read_labelled`.
        usual: The task's own labels.
        name: Name of the data set for messages. None takes that of the records.

    Raises:
        DataError: A row has a label that is not in the label set, an answer that is not declared, or a tag is none.
    """
    name = records.name if name is None else name
    left_out = {"rows without any value": records.num_blank} if records.num_blank else {}
    if head.writes_text:
        return _responses(records, name, answers, left_out, leave_out_others)
    known = _label_set(records, head, labels, usual, numbered)
    examples: list[AnyExample] = []
    respelled = others = by_number = 0
    for row in records.rows:
        tags = (row.label,) if isinstance(row.label, str) else row.label
        found = [_index(known, tag, head, is_named=row.is_named) for tag in tags]
        places = [place for place, _ in found if place is not None]
        if len(places) < len(found):
            others += 1
            if leave_out_others:
                continue
            word = next(number for number, (place, _) in enumerate(found) if place is None)
            raise _unknown_label(row, records.columns[1], word, known, head)
        respelled += any(differs for _, differs in found)
        by_number += not (row.is_named or known.numbered) and any(known.is_number(tag) for tag in tags)
        if isinstance(row.text, str):
            examples.append(Example(row.text, places[0], row.customer))
        else:
            examples.append(TokenExample(row.text, tuple(places), row.customer))
    if others:
        left_out["rows with other labels"] = others
    return Dataset(
        tuple(examples),
        known.names,
        name,
        labels_from_rows=not labels,
        numbered=known.numbered,
        left_out=left_out,
        respelled=respelled,
        by_number=by_number,
    )


def _responses(
    records: Records,
    name: str,
    answers: Mapping[str, Sequence[str]],
    left_out: Mapping[str, int],
    leave_out_others: bool,
) -> Dataset:
    """Return prompts with responses. Each row of a kind with declared answers has one of them."""
    known = {kind: frozenset(map(plain_answer, allowed)) for kind, allowed in answers.items()}
    examples, others = [], 0
    for row in records.rows:
        allowed = known.get(row.kind)
        if allowed is not None and plain_answer(str(row.label)) not in allowed:
            if not leave_out_others:
                raise DataError(
                    f"{row.where(records.columns[1])} holds an answer that is not one of {_listed(answers[row.kind])}: "
                    "correct the row, or leave it out"
                )
            others += 1
            continue
        examples.append(ResponseExample(str(row.text), str(row.label), row.customer, row.before, row.kind))
    counts = dict(left_out) | ({"rows with answers that are not declared": others} if others else {})
    return Dataset(
        tuple(examples), (), name, left_out=counts, answers={kind: tuple(each) for kind, each in answers.items()}
    )


def refuse_unused_kinds(dataset: Dataset, place: str) -> None:
    """Refuse declared answers of a kind of instruction that no row of public or own data has.

    Args:
        dataset: The rows.
        place: The place of the declaration, for messages.

    Raises:
        DataError: The message names the first such kind.
    """
    found = {example.kind for example in dataset.examples if isinstance(example, ResponseExample)}
    for kind in dataset.answers:
        if kind not in found:
            raise DataError(
                f'{dataset.name}: no row is of kind "{kind}", which {place} declares: name the kinds as column "kind" '
                "does, or by their instruction"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_LISTED else f"the {len(names)} answers of its kind"


def _label_set(
    records: Records, head: Head, labels: Sequence[str], usual: Sequence[str], numbered: Sequence[str]
) -> LabelSet:
    """Return the labels, and those that the numbers of files without label names stand for."""
    numbered = tuple(records.own_labels or numbered)
    if not head.labels_words:
        return LabelSet(tuple(labels) or labels_of_records(records, head, usual), numbered)
    if labels:
        names, numbered = _tags(labels, "the labels"), numbered or tuple(labels)
    else:
        names = labels_of_records(records, head, usual)
    return LabelSet(names, tuple(iob(tag) or tag for tag in numbered))


def labels_of_records(records: Records, head: Head, usual: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the label set of records, see `read_labelled`.

    Raises:
        DataError: The task labels words, and a tag is none.
    """
    if not head.labels_words:
        return label_set((str(row.label) for row in records.rows), records.own_labels, usual)
    if records.own_labels:
        return _tags(records.own_labels, records.name)
    tags: list[str] = []
    for row in records.rows:
        for word, tag in enumerate(row.label):
            if (read := iob(tag)) is None:
                wanted = "O, B-type or I-type" + ("" if row.row_is_word else " (numbers need --labels)")
                raise DataError(f"{row.where(records.columns[1], word)} holds a tag that is not {wanted}")
            tags.append(read)
    return tuple(sorted(label_set(tags), key=lambda tag: (tag != "O", tag)))


def _index(known: LabelSet, label: str, head: Head, *, is_named: bool) -> tuple[int | None, bool]:
    place, differs = known.index(label, is_named=is_named)
    if place is not None or not head.labels_words:
        return place, differs
    tag = iob(label)
    return (None, False) if tag is None else known.index(tag, is_named=True)


def _unknown_label(row: Record, column: str, word: int, known: LabelSet, head: Head) -> DataError:
    kind = "tag" if head.labels_words else "label"
    names = known.names
    listed = ", ".join(names) if len(names) <= _MOST_LISTED else f"the {len(names)} labels of this run"
    return DataError(
        f"{row.where(column, word)} holds a {kind} that is not one of {listed}: correct the row, or leave it out"
    )


def _tags(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """Return labels as IOB tags, in their order.

    Raises:
        DataError: A label is no tag.
    """
    found = [iob(label) for label in labels]
    if None in found:
        raise DataError(f"{source}: not all of them are tags: give O, B-type or I-type")
    return tuple(dict.fromkeys(tag for tag in found if tag))

"""Labelled text as immutable datasets, read from files and checked before the first round.

Messages name file, row and column, never a value: label and text columns are both an institution's own.
"""

import hmac
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.data.raw_text import read_text
from common.data.tables import read_rows
from common.errors import DataError

__all__ = [
    "AnyExample",
    "Dataset",
    "Example",
    "SummaryExample",
    "TokenExample",
    "duplicates",
    "examples_of",
    "iob",
    "labels_of",
    "merge",
    "read_conll",
    "read_conll_documents",
    "read_examples",
    "read_rows",
    "read_summaries",
    "select_labels",
    "validate",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One text, the index of its label, and whose it is where customers are the unit of privacy."""

    text: str
    label: int
    customer: str | None = None


@dataclass(frozen=True)
class TokenExample:
    """One sentence as words, the index of each word's tag, and whose it is (a CoNLL file's documents, as read)."""

    words: tuple[str, ...]
    labels: tuple[int, ...]
    customer: str | None = None


@dataclass(frozen=True)
class SummaryExample:
    """One text and its summary."""

    text: str
    summary: str
    customer: str | None = None


AnyExample = Example | TokenExample | SummaryExample


@dataclass(frozen=True)
class Dataset:
    """Examples of one kind, the label names their indices stand for, and a name for messages.

    Without label names it is unlabelled text: the examples' label 0 then means nothing.

    Attributes:
        labels_from_rows: Whether the label names were collected from the rows. A private training refuses such names,
            because they would be published beside the noise.
        left_out: How many parts of the files were not read, by their kind.
    """

    examples: tuple[AnyExample, ...]
    labels: tuple[str, ...]
    name: str
    labels_from_rows: bool = field(default=False, compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        texts: Iterable[str | Sequence[str]],
        labels: Iterable[str | Sequence[str]] | None = None,
        *,
        known: Sequence[str] = (),
        customers: Iterable[str] | None = None,
        name: str = "rows",
    ) -> "Dataset":
        """Return a data set of rows in memory, such as two columns of a data frame.

        Args:
            texts: Texts, or sentences as lists of words.
            labels: A label for each text, or a list of tags for each sentence. None for text without labels.
            known: All labels, in the order of the model's outputs. If empty, those that occur, sorted. Give a test
                set the labels of its training set.
            customers: Whose each row is, if the protected unit is a customer.
            name: Name of the rows in messages.

        Raises:
            DataError: An empty text, a label that is not among `known`, or columns of different lengths.

        >>> rows = Dataset.of(["Profit rose.", "Sales fell."], ["up", "down"])
        >>> rows.labels, len(rows)
        (('down', 'up'), 2)
        >>> Dataset.of([["Acme", "rose"]], [["B-ORG", "O"]]).labels
        ('O', 'B-ORG')
        """
        from common.data.in_memory import dataset_of

        return dataset_of(texts, labels, known, customers, name)

    def __len__(self) -> int:
        return len(self.examples)

    def units(self, unit: str) -> int:
        """How many units of privacy there are: records, or customers.

        Raises:
            DataError: an example carries no customer.
        """
        if unit == "record":
            return len(self)
        customers = {example.customer for example in self.examples}
        if None in customers:
            raise DataError(f"{self.name}: its rows carry no customer, and customers are protected: name their column")
        return len(customers)

    def label_counts(self) -> tuple[int, ...]:
        """How often each label occurs (texts, or words of sentences), in the order of `labels`."""
        counts: Counter[int] = Counter()
        for example in self.examples:
            if isinstance(example, Example):
                counts[example.label] += 1
            elif isinstance(example, TokenExample):
                counts.update(example.labels)
        return tuple(counts[index] for index in range(len(self.labels)))

    def fingerprint(self, key: bytes) -> str:
        """Hex HMAC-SHA256 under `key` of the examples as a multiset: order, customers and `name` do not matter.

        Keyed, so that nobody without the key can test whether a guessed text is among the examples.
        """
        rows = sorted(hmac.digest(key, self._row(example), "sha256") for example in self.examples)
        return hmac.new(key, b"dataset" + b"".join(rows), "sha256").hexdigest()

    def _row(self, example: AnyExample) -> bytes:
        if isinstance(example, SummaryExample):
            return json.dumps(["summary", example.text, example.summary]).encode()
        if isinstance(example, Example):
            return json.dumps(["text", example.text, *self.labels[example.label : example.label + 1]]).encode()
        return json.dumps(["words", example.words, [self.labels[label] for label in example.labels]]).encode()


def read_examples(
    path: Path,
    text_column: str,
    label_column: str,
    labels: Sequence[str] | None = None,
    customer_column: str | None = None,
) -> Dataset:
    """Read a classification data set. Without `labels`, the labels in the file become the label set.

    Raises:
        DataError: see `read_rows`, `examples_of` and `validate`.
    """
    rows = read_rows(path, (text_column, label_column, *([customer_column] if customer_column else [])))
    dataset = examples_of(rows, text_column, label_column, labels, str(path), customer_column=customer_column)
    validate(dataset)
    return dataset


def examples_of(
    rows: Sequence[dict[str, str]],
    text_column: str,
    label_column: str,
    labels: Sequence[str] | None,
    name: str,
    numbers: Sequence[int] | None = None,
    customer_column: str | None = None,
) -> Dataset:
    """Turn rows into a dataset. `numbers` are the rows' numbers in the file where `rows` is a part of it.

    Raises:
        DataError: an empty text, label or customer, a label outside `labels`, a text column that holds only numbers.
    """
    numbers = range(1, len(rows) + 1) if numbers is None else numbers
    for number, row in zip(numbers, rows, strict=True):
        columns = [text_column, label_column, *([customer_column] if customer_column is not None else [])]
        _refuse_empty(name, number, row, columns)
    if rows and all(_is_number(row[text_column]) for row in rows):
        raise DataError(f'{name}: column "{text_column}" holds only numbers: name the column with the text')
    known = labels_of(row[label_column] for row in rows) if labels is None else tuple(labels)
    index = {label: position for position, label in enumerate(known)}
    examples = []
    for number, row in zip(numbers, rows, strict=True):
        label = index.get(row[label_column].strip())
        if label is None:
            raise DataError(f'{name}: row {number}, column "{label_column}" holds a label that is not {_named(known)}')
        customer = row[customer_column].strip() if customer_column else None
        examples.append(Example(row[text_column].strip(), label, customer))
    return Dataset(tuple(examples), known, name, labels_from_rows=labels is None)


def select_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """Return the examples whose labels are all among `labels`, numbered by their place in `labels`.

    Each example is kept or left out by its own labels alone, so that one example more or less changes nothing else. No
    example may remain.

    >>> rows = Dataset.of(["Profit rose.", "Sales fell."], ["up", "down"])
    >>> select_labels(rows, ("flat", "up")).examples
    (Example(text='Profit rose.', label=1, customer=None),)
    """
    place = {label: index for index, label in enumerate(labels)}
    new = [place.get(label) for label in dataset.labels]

    def renumbered(example: AnyExample) -> AnyExample | None:
        if isinstance(example, Example):
            label = new[example.label]
            return None if label is None else replace(example, label=label)
        if isinstance(example, TokenExample):
            tags = tuple(tag for tag in (new[label] for label in example.labels) if tag is not None)
            return replace(example, labels=tags) if len(tags) == len(example.labels) else None
        return example

    kept = (renumbered(example) for example in dataset.examples)
    return replace(dataset, examples=tuple(each for each in kept if each), labels=tuple(labels), labels_from_rows=False)


def read_summaries(path: Path, text_column: str, summary_column: str) -> Dataset:
    """Read texts and their summaries.

    Raises:
        DataError: see `read_rows`. Also for an empty text or summary.
    """
    rows = read_rows(path, (text_column, summary_column))
    for number, row in enumerate(rows, start=1):
        _refuse_empty(str(path), number, row, (text_column, summary_column))
    examples = tuple(SummaryExample(row[text_column].strip(), row[summary_column].strip()) for row in rows)
    return Dataset(examples, (), str(path))


def _refuse_empty(name: str, number: int, row: dict[str, str], columns: Sequence[str]) -> None:
    for column in columns:
        if not row[column].strip():
            raise DataError(f'{name}: row {number}, column "{column}" is empty: fill it or leave the row out')


def labels_of(values: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in a fixed order: by number when all are numbers, else by text."""
    found = sorted({value.strip() for value in values})
    numbers = all(label.removeprefix("-").isdecimal() for label in found)
    return tuple(sorted(found, key=int)) if numbers else tuple(found)


def read_conll(path: Path, labels: Sequence[str] | None = None) -> Dataset:
    """Read sentences for token classification: first column the word, last column its tag, blank line between.

    Columns are separated by tabs. In a line without a tab they are separated by plain spaces. Other kinds of space are
    part of a word ("10 000" with a no-break space is one word).

    `-DOCSTART-` lines separate documents and are no sentences. `labels` defaults to the tags found, "O" first. Tags
    that also mark an entity's end, or one of a single word (BIOES, BILOU), are read as IOB.

    Raises:
        DataError: an unreadable file, a line without a tag, a tag that is no IOB or not in `labels`, a single tag only.
    """
    documents = read_conll_documents(path, labels)
    whole = tuple(example for document in documents for example in document.examples)
    dataset = replace(documents[0], examples=whole, name=str(path))
    validate(dataset)
    return dataset


def read_conll_documents(path: Path, labels: Sequence[str] | None = None) -> tuple[Dataset, ...]:
    """The same, one dataset a document, named "document_1", ..., all with the same labels. The row number is the line
    of the file.
    """
    documents: list[list[list[tuple[int, str, str]]]] = [[[]]]
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        fields = [field.strip(" ") for field in line.rstrip("\r").split("\t" if "\t" in line else " ")]
        fields = [field for field in fields if field]
        if not line.strip():
            documents[-1].append([])
        elif fields[0] == "-DOCSTART-":
            documents.append([[]])
        elif len(fields) < 2:
            raise DataError(f"{path}: row {number} has a word and no tag: give each line a word and, last, its tag")
        else:
            for field in (fields[0], fields[-1]):
                if not field.isprintable() and any("\ud800" <= c <= "\udfff" for c in field):
                    raise DataError(f"{path}: row {number} is not UTF-8: convert the file")
            tag = iob(fields[-1])
            if tag is None:
                raise DataError(f"{path}: row {number}, last column holds a tag that is not O, B-type or I-type")
            documents[-1][-1].append((number, fields[0], tag))
    sentences = [[s for s in document if s] for document in documents if any(document)]
    if not sentences:
        raise DataError(f"{path}: the file holds no sentences")
    tags = {tag for document in sentences for s in document for _, _, tag in s}
    known = tuple(labels) if labels else tuple(sorted(tags, key=lambda tag: (tag != "O", tag)))
    index = {tag: position for position, tag in enumerate(known)}
    for document in sentences:
        for number, _, tag in (entry for s in document for entry in s):
            if tag not in index:
                raise DataError(f"{path}: row {number}, last column holds a tag that is not {_named(known)}")
    return tuple(
        Dataset(
            tuple(
                TokenExample(tuple(w for _, w, _ in s), tuple(index[tag] for _, _, tag in s), name) for s in document
            ),
            known,
            name,
            labels_from_rows=not labels,
        )
        for name, document in ((f"document_{position}", document) for position, document in enumerate(sentences, 1))
    )


def iob(tag: str) -> str | None:
    """Return a tag of IOB, BIOES or BILOU as a tag of IOB, and None for any other text."""
    prefix, _, kind = tag.partition("-")
    if tag == "O" or (prefix in ("B", "I") and kind):
        return tag
    begins = {"S": "B", "U": "B", "E": "I", "L": "I"}.get(prefix)
    return f"{begins}-{kind}" if begins and kind else None


def validate(dataset: Dataset) -> None:
    """Refuse data that cannot be learned from, and log how many examples occur more than once.

    Raises:
        DataError: no examples, or all of them carry one label.
    """
    if not dataset.examples:
        raise DataError(f"{dataset.name}: there are no examples")
    _refuse_malformed(dataset)
    if dataset.labels and sum(count > 0 for count in dataset.label_counts()) < 2:
        raise DataError(f"{dataset.name}: all examples carry one label: give at least two labels to tell apart")
    if repeated := duplicates(dataset):
        # Under DP with records as the unit, a text that occurs twice is protected half as well.
        log.warning("%s: %d of %d examples are duplicates", dataset.name, repeated, len(dataset))


def _refuse_malformed(dataset: Dataset) -> None:
    """Refuse examples that no reader makes, but a caller from Python may."""
    if len({type(example) for example in dataset.examples}) > 1:
        raise DataError(f"{dataset.name}: its examples are of different kinds: give one kind")
    highest = len(dataset.labels) - 1
    for number, example in enumerate(dataset.examples, start=1):
        found = (example.label,) if isinstance(example, Example) else getattr(example, "labels", ())
        if dataset.labels and not all(0 <= label <= highest for label in found):
            raise DataError(f"{dataset.name}: example {number} has a label that is not from 0 to {highest}")
        if isinstance(example, TokenExample) and len(example.words) != len(example.labels):
            raise DataError(f"{dataset.name}: example {number}: give one tag for each word")


def duplicates(dataset: Dataset) -> int:
    """How many examples repeat the text of an earlier one."""
    return len(dataset) - len({e.words if isinstance(e, TokenExample) else e.text for e in dataset.examples})


def merge(datasets: Sequence[Dataset], name: str) -> Dataset:
    """All examples of datasets that share their labels, in the order given."""
    return replace(datasets[0], examples=tuple(e for d in datasets for e in d.examples), name=name)


def _named(labels: Sequence[str]) -> str:
    known = ", ".join(labels) if len(labels) <= 9 else f"the {len(labels)} labels of this run"
    return f"one of {known}: correct the row, or leave it out"


def _is_number(value: str) -> bool:
    try:
        float(value.replace(",", "").replace("%", ""))
    except ValueError:
        return False
    return True

"""Labelled text as immutable data sets, checked before the first round. `common.data.reading` reads them from files."""

import functools
import hmac
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.errors import DataError

__all__ = [
    "AnyExample",
    "Dataset",
    "Example",
    "ResponseExample",
    "TokenExample",
    "Turn",
    "duplicates",
    "labels_present",
    "merge",
    "select_labels",
    "text_of",
    "validate",
]

log = logging.getLogger(__name__)


Turn = tuple[str, str]
"""The role of a speaker, and the text that is spoken."""


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
class ResponseExample:
    """One text, and the text to be written for it: a summary, or the response to a prompt.

    Attributes:
        text: The text, or the last turn of the user.
        response: The text to be written.
        before: The turns before the last one, as (role, content). The roles are "system", "user" and "assistant".
        kind: The name of the kind of instruction: of the row's column `kind`, or the instruction itself. Answers of
            one kind may form a closed set of labels.
    """

    text: str
    response: str
    customer: str | None = None
    before: tuple[Turn, ...] = ()
    kind: str = ""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns of the prompt."""
        return (*self.before, ("user", self.text))

    @property
    def prompt(self) -> str:
        """The texts of all turns, with empty lines between them."""
        return "\n\n".join(content for _, content in self.turns)


AnyExample = Example | TokenExample | ResponseExample


@dataclass(frozen=True)
class Dataset:
    """Examples of one kind, the label names their indices stand for, and a name for messages.

    Without label names it is unlabelled text: the examples' label 0 then means nothing.

    Attributes:
        labels_from_rows: Whether the label names were collected from the rows. A private training refuses such names,
            because they would be published beside the noise.
        numbered: The labels that 0, 1, ... stand for in the file, if it names them. A test file that does not name its
            numbers is read with those of the training file.
        left_out: How many parts of the files were not read, by their kind.
        respelled: Number of rows whose label differs from the label of the data set by case, blanks, gaps or invisible
            characters, and was read as that label.
        by_number: Number of rows with a number that stands for a label.
        answers: The declared answers by kind of instruction. Each row of such a kind has one of them.
    """

    examples: tuple[AnyExample, ...]
    labels: tuple[str, ...]
    name: str
    labels_from_rows: bool = field(default=False, compare=False)
    numbered: tuple[str, ...] = field(default=(), compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    respelled: int = field(default=0, compare=False)
    by_number: int = field(default=0, compare=False)
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

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
        if isinstance(example, ResponseExample):
            return json.dumps(["summary", example.text, example.response, *example.before]).encode()
        if isinstance(example, Example):
            return json.dumps(["text", example.text, *self.labels[example.label : example.label + 1]]).encode()
        return json.dumps(["words", example.words, [self.labels[label] for label in example.labels]]).encode()


def labels_present(parts: Sequence[Dataset], labels: Sequence[str]) -> tuple[str, ...]:
    """Return those of `labels` that an example of `parts` has, in the order of `labels`."""
    found: set[str] = set()
    for part in parts:
        for example in part.examples:
            if isinstance(example, Example):
                found.add(part.labels[example.label])
            elif isinstance(example, TokenExample):
                found |= {part.labels[label] for label in example.labels}
    return tuple(label for label in labels if label in found)


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
        _warn_once(f"{dataset.name}: {repeated} of {len(dataset)} examples are duplicates")


@functools.cache
def _warn_once(text: str) -> None:
    """Log a warning that was not logged before in this process: several callers validate the same rows."""
    log.warning("%s", text)


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
    return len(dataset) - len({text_of(example) for example in dataset.examples})


def text_of(example: AnyExample) -> str | tuple[str, ...]:
    """Return the text or the words of an example. Examples with equal ones are the same text."""
    if isinstance(example, ResponseExample):
        return example.prompt
    return example.words if isinstance(example, TokenExample) else example.text


def merge(datasets: Sequence[Dataset], name: str) -> Dataset:
    """All examples of datasets that share their labels, in the order given."""
    return replace(datasets[0], examples=tuple(e for d in datasets for e in d.examples), name=name)

"""Rows of any file as records: text, label and other columns as written, before labels become numbers."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.data.cells import as_text, as_texts
from common.data.conll import DOCUMENT
from common.data.conversations import Form, find_form
from common.data.datasets import Turn
from common.data.files import data_files, known_formats, opener_of
from common.data.raw_text import file_kind, read_text, visible_files
from common.data.scores import CLASSES, SCORE_RULE, are_scores, class_of_score, score_of
from common.data.table import Table, missing_column
from common.errors import DataError
from common.spelling import clean_label
from common.tasks import Head

__all__ = ["Columns", "Record", "Records", "is_number", "read_records", "scores_as_classes"]

log = logging.getLogger(__name__)

_PLAIN = (".txt", ".md")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a data set.

    Attributes:
        text: Of the text or the words. None takes the usual name for the task.
        label: Of the label, the summary or the tags. None takes the usual name for the task.
        customer: Of the customer, if there is one. In a CoNLL file every document is a customer.
        other: More columns that the caller needs.
    """

    text: str | None = None
    label: str | None = None
    customer: str | None = None
    other: Sequence[str] = ()


@dataclass(frozen=True)
class Record:
    """One row.

    Attributes:
        place: The file and the number of the row, for messages.
        text: The text, or the words of a sentence.
        label: The label or the summary, or the tag of each word. Label names of the file stand for its numbers.
        is_named: Whether the file names the numbers of its labels.
        customer: Whose row it is.
        other: The values of the other columns that were asked for.
        row_is_word: Whether the file has a line for each word, and the number is that of the first.
        before, kind: Of a prompt, see `common.data.datasets.ResponseExample`.
    """

    place: tuple[str, int]
    text: str | tuple[str, ...]
    label: str | tuple[str, ...]
    is_named: bool = False
    customer: str | None = None
    other: Mapping[str, str] = field(default_factory=dict)
    row_is_word: bool = False
    before: tuple[Turn, ...] = ()
    kind: str = ""

    def where(self, column: str, word: int = 0) -> str:
        """Return the beginning of a message about a value: file, row and column."""
        source, number = self.place
        if self.row_is_word:
            return f"{source}: row {number + word}, last column"
        return f'{source}: row {number}, column "{column}"'


@dataclass(frozen=True)
class Records:
    """The rows of a data set.

    Attributes:
        rows: The records in the order of the files.
        name: The data set for messages.
        columns: Names of the columns of text and label.
        own_labels: The names that the files themselves give to labels, in their order.
        num_blank: Number of rows that were left out because all of their cells are empty.
        row_is_word: Whether the files have a line for each word.
    """

    rows: tuple[Record, ...]
    name: str
    columns: tuple[str, str]
    own_labels: tuple[str, ...] = ()
    num_blank: int = 0
    row_is_word: bool = False


def read_records(path: Path, head: Head, columns: Columns) -> Records:
    """Read rows with labels from a file, a folder or a pattern of files, see `common.data.files.data_files`.

    A folder whose own folders hold plain texts has one row a text, and the name of the text's folder is its label.

    Raises:
        DataError: One line that names file, row and column. A file cannot be used, a column is missing, or a row has
            no text, label or customer.
    """
    usual = head.columns
    text, label = columns.text or usual[0], columns.label or usual[1]
    if head.labels_texts and path.is_dir() and (texts := _labelled_texts(path)):
        if columns.customer or columns.other:
            raise DataError(f"{path}: a folder of texts has no columns: leave their names out")
        return Records(tuple(texts), str(path), (text, label))
    files = data_files(path, head)
    rows: list[Record] = []
    own: dict[str, None] = {}
    blank = 0
    for file in files:
        reader = _File(file, head, text, label, columns, is_one_of_many=len(files) > 1)
        rows.extend(reader.records())
        own.update(dict.fromkeys(reader.names))
        blank += reader.num_blank
        if head is Head.INSTRUCTION:  # each form has columns of its own
            text, label = reader.text, reader.label
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    if head.labels_texts and all(isinstance(row.text, str) and is_number(row.text) for row in rows):
        raise DataError(f'{path}: column "{text}" holds only numbers: name the column with the text')
    return Records(tuple(rows), str(path), (text, label), tuple(own), blank, any(row.row_is_word for row in rows))


def scores_as_classes(records: Records, head: Head, labels: Sequence[str]) -> Records:
    """Return records of sentiment with a class for each score. A warning states the rule.

    Args:
        records: The rows. They are returned as they are if not all of their labels are scores.
        head: Kind of the task.
        labels: The label set. Only if these are the classes of sentiment, scores are looked for.
    """
    if not head.labels_texts or set(labels) != set(CLASSES) or not are_scores(str(row.label) for row in records.rows):
        return records
    log.warning("%s: scores became classes: %s", records.name, SCORE_RULE)
    rows = tuple(replace(row, label=class_of_score(score_of(str(row.label)) or 0.0)) for row in records.rows)
    return replace(records, rows=rows)


class _File:
    """One file of a data set.

    Attributes:
        names: The file's own label names. Names that are all numbers name nothing.
        num_blank: Number of rows without any value, once the records are read.
    """

    def __init__(
        self, path: Path, head: Head, text: str, label: str, columns: Columns, *, is_one_of_many: bool
    ) -> None:
        self.path, self.head, self.is_one_of_many = path, head, is_one_of_many
        opener = opener_of(path, head)
        if opener is None and head.labels_words:
            raise DataError(
                f"{path}: a table has one label a row: give words and tags as CoNLL (.txt), or lists in *.jsonl"
            )
        if opener is None:
            raise DataError(f"{path}: unknown format: name it {known_formats()}")
        wanted = [name for name in (text, label, columns.customer, *columns.other) if name is not None]
        # The columns of prompts are known once the table is open.
        self.table: Table = opener(path, None if head is Head.INSTRUCTION else wanted)
        self.form = find_form(path, self.table, columns.text, columns.label) if head is Head.INSTRUCTION else None
        if self.form is not None:
            text, label = self.form.columns
            wanted = [name for name in (columns.customer, *columns.other) if name is not None]
        if self.table.row_is_word:
            text, label = self.table.columns[:2]
            wanted = [text, label, *columns.other]
        for name in wanted:
            if name not in self.table.columns:
                raise missing_column(path, name, self.table)
        self.text, self.label, self.other = text, label, columns.other
        self.customer = DOCUMENT if self.table.row_is_word else columns.customer
        self.own = tuple(clean_label(name) for name in self.table.label_names.get(label, ()))
        self.names = () if all(name.isdecimal() for name in self.own) else self.own
        self.num_blank = 0

    def records(self) -> Iterator[Record]:
        """Yield the records of the file."""
        for number, row in self.table.rows:
            if all(value is None or (isinstance(value, str) and not value.strip()) for value in row.values()):
                self.num_blank += 1
                continue
            if self.form is not None:
                yield self._conversation(self.form, number, row)
            else:
                yield self._words(number, row) if self.head.labels_words else self._text(number, row)

    def _conversation(self, form: Form, number: int, row: Mapping[str, object]) -> Record:
        read = form.read(self.path, number, row)
        return Record(
            (str(self.path), number),
            read.turns[-1][1],
            read.response,
            customer=self._customer(number, row),
            other=self._others(number, row),
            before=read.turns[:-1],
            kind=read.kind,
        )

    def _text(self, number: int, row: Mapping[str, object]) -> Record:
        text = self._filled(number, row, self.text)
        label = self._filled(number, row, self.label)
        if not self.head.writes_text:
            label = self._named(number, label)
        return Record(
            (str(self.path), number),
            text,
            label,
            bool(self.names),
            self._customer(number, row),
            self._others(number, row),
        )

    def _words(self, number: int, row: Mapping[str, object]) -> Record:
        words = as_texts(self.path, number, self.text, row.get(self.text))
        tags = as_texts(self.path, number, self.label, row.get(self.label))
        if not words or len(words) != len(tags) or not all(word.strip() for word in words):
            raise DataError(f"{self.path}: row {number}: give one tag for each word, and no empty word")
        named = tuple(self._named(number, tag) for tag in tags)
        return Record(
            (str(self.path), number),
            tuple(words),
            named,
            bool(self.names),
            self._customer(number, row),
            self._others(number, row),
            self.table.row_is_word,
        )

    def _named(self, number: int, label: str) -> str:
        """Return the file's name for a label that is a number. -1 is no label, as in the hidden tests of benchmarks."""
        text = clean_label(label)
        if not self.own or not text.removeprefix("-").isdecimal():
            return text
        place = int(text)
        if place == -1:
            raise DataError(f'{self.path}: row {number}, column "{self.label}" has no label (-1): leave the row out')
        if not 0 <= place < len(self.own):
            raise DataError(
                f'{self.path}: row {number}, column "{self.label}" holds a number without a name in the file'
            )
        return self.own[place]

    def _filled(self, number: int, row: Mapping[str, object], column: str) -> str:
        value = as_text(self.path, number, column, row.get(column)).strip()
        if not value:
            raise DataError(f'{self.path}: row {number}, column "{column}" is empty: fill it or leave the row out')
        return value

    def _customer(self, number: int, row: Mapping[str, object]) -> str | None:
        if self.customer is None:
            return None
        customer = self._filled(number, row, self.customer)
        return f"{self.path.name}/{customer}" if self.table.row_is_word and self.is_one_of_many else customer

    def _others(self, number: int, row: Mapping[str, object]) -> dict[str, str]:
        return {name: as_text(self.path, number, name, row.get(name)).strip() for name in self.other}


def _labelled_texts(path: Path) -> list[Record]:
    """Return one record a text file, if all files below a folder are plain texts in folders that name their labels."""
    files = visible_files(path)
    if not all(file_kind(each) in _PLAIN for each in files) or not any(each.parent != path for each in files):
        return []
    for file in files:
        if file.parent.parent != path:
            raise DataError(f"{file}: it is in no folder that names its label: put each text in {path.name}/LABEL/")
    records = []
    for file in files:
        text = read_text(file).strip()
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"{file}: it is not UTF-8: convert the file")
        records.append(Record((str(file), 1), text, clean_label(file.parent.name)))
    return records


def is_number(value: str) -> bool:
    """Return whether a text is a number, with "," and "%" allowed."""
    try:
        float(value.replace(",", "").replace("%", ""))
    except ValueError:
        return False
    return True

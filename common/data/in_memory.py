"""Build a data set from values in memory, with the same checks as rows of a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from common.data.cells import as_text
from common.data.datasets import Dataset, Example
from common.data.labels import iob
from common.data.reading import to_dataset
from common.data.records import Record, Records, is_number
from common.errors import DataError
from common.tasks import Head

__all__ = ["dataset_of"]


def dataset_of(
    texts: Iterable[str | Sequence[str]],
    labels: Iterable[str | Sequence[str]] | None,
    known: Sequence[str],
    customers: Iterable[str] | None,
    name: str,
) -> Dataset:
    """Return the data set that `Dataset.of` describes.

    Raises:
        DataError: See `Dataset.of`.
    """
    if isinstance(texts, str):
        raise DataError(f"{name}: the texts are one text: give a list of texts")
    rows = list(texts)
    given = None if labels is None else list(labels)
    owners = None if customers is None else list(customers)
    for column, values in (("labels", given), ("customers", owners)):
        if values is not None and len(values) != len(rows):
            raise DataError(f"{name}: {len(rows)} texts and {len(values)} {column}: give one for each text")
    if rows and not isinstance(rows[0], str):
        return _sentences(rows, given, known, owners, name)
    for number, value in enumerate(rows, start=1):
        if not isinstance(value, str):
            raise DataError(f"{name}: row {number}: the text is no text: convert it, or leave the row out")
    if given is None:
        return _unlabelled(rows, owners, name)
    if rows and all(is_number(str(text)) for text in rows):
        raise DataError(f'{name}: column "text" holds only numbers: name the column with the text')
    records = []
    for number, (text, label) in enumerate(zip(rows, given, strict=True), start=1):
        cells = {"text": str(text).strip(), "label": _plain(name, number, "label", label)}
        if owners is not None:
            cells["customer"] = _plain(name, number, "customer", owners[number - 1])
        for column, cell in cells.items():
            if not cell:
                raise DataError(f'{name}: row {number}, column "{column}" is empty: fill it or leave the row out')
        records.append(Record((name, number), cells["text"], cells["label"], customer=cells.get("customer")))
    return _dataset(records, name, Head.SEQUENCE, known)


def _plain(name: str, number: int, column: str, value: object) -> str:
    return as_text(Path(name), number, column, value).strip()


def _dataset(records: Sequence[Record], name: str, head: Head, known: Sequence[str]) -> Dataset:
    return to_dataset(Records(tuple(records), name, ("text", "label")), head, known)


def _unlabelled(texts: Sequence[object], owners: Sequence[str] | None, name: str) -> Dataset:
    kept = [(str(text).strip(), None if owners is None else owners[place]) for place, text in enumerate(texts)]
    return Dataset(tuple(Example(text, 0, owner) for text, owner in kept if text), (), name)


def _sentences(
    rows: Sequence[object],
    given: Sequence[object] | None,
    known: Sequence[str],
    owners: Sequence[str] | None,
    name: str,
) -> Dataset:
    if given is None:
        raise DataError(f"{name}: sentences of words have no tags: give a list of tags for each")
    records = []
    for number, (words, tags) in enumerate(zip(rows, given, strict=True), start=1):
        read = [] if isinstance(tags, str) else [iob(str(tag)) for tag in tags]  # type: ignore[attr-defined]
        texts = [] if isinstance(words, str) else [str(word) for word in words]  # type: ignore[attr-defined]
        if not texts or len(read) != len(texts) or not all(word.strip() for word in texts):
            raise DataError(f"{name}: row {number}: give one tag for each word, and no empty word")
        if None in read or (known and set(read) - set(known)):
            listed = f"one of {', '.join(known)}" if known else "O, B-type or I-type"
            raise DataError(f"{name}: row {number}: a tag is not {listed}: correct the row, or leave it out")
        owner = None if owners is None else owners[number - 1]
        records.append(Record((name, number), tuple(texts), tuple(tag for tag in read if tag), customer=owner))
    return _dataset(records, name, Head.TOKEN, known)

"""Build a data set from values in memory, with the same checks as rows of a file."""

from collections.abc import Iterable, Sequence

from common.data.datasets import Dataset, Example, TokenExample, examples_of, iob
from common.errors import DataError

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
    columns = [{"text": str(text), "label": str(label)} for text, label in zip(rows, given, strict=True)]
    if owners is not None:
        columns = [{**row, "customer": str(owner)} for row, owner in zip(columns, owners, strict=True)]
    customer = None if owners is None else "customer"
    return examples_of(columns, "text", "label", tuple(known) or None, name, customer_column=customer)


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
    sentences = []
    for number, (words, tags) in enumerate(zip(rows, given, strict=True), start=1):
        read = [] if isinstance(tags, str) else [iob(str(tag)) for tag in tags]  # type: ignore[attr-defined]
        texts = [] if isinstance(words, str) else [str(word) for word in words]  # type: ignore[attr-defined]
        if not texts or len(read) != len(texts) or not all(word.strip() for word in texts):
            raise DataError(f"{name}: row {number}: give one tag for each word, and no empty word")
        if None in read or (known and set(read) - set(known)):
            listed = f"one of {', '.join(known)}" if known else "O, B-type or I-type"
            raise DataError(f"{name}: row {number}: a tag is not {listed}: correct the row, or leave it out")
        sentences.append((tuple(texts), [tag for tag in read if tag]))
    found = {tag for _, tags in sentences for tag in tags}
    names = tuple(known) or tuple(sorted(found, key=lambda tag: (tag != "O", tag)))
    place = {tag: index for index, tag in enumerate(names)}
    examples = (
        TokenExample(words, tuple(place[tag] for tag in tags), None if owners is None else owners[number])
        for number, (words, tags) in enumerate(sentences)
    )
    return Dataset(tuple(examples), names, name, labels_from_rows=not known)

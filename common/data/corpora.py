"""Unlabelled text: a corpus is any file or folder of it.

A file of plain text gives one text a paragraph, a table one text a row. Nothing is quoted in a message: files are
named, rows numbered.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from common.data.cells import as_text
from common.data.datasets import Dataset, Example
from common.data.files import OPENERS, open_table
from common.data.raw_text import file_kind, read_text
from common.data.table import Table, missing_column
from common.errors import DataError

__all__ = ["public_texts", "python_reference_text", "read_corpus", "read_split", "read_text_dataset", "split_held_out"]

_TEXT_COLUMNS = ("text", "sentence", "content", "body", "narrative")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def _paragraphs(path: Path) -> list[str]:
    text = read_text(path)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{path}: it is not UTF-8: convert the file")
    return [" ".join(part.split()) for part in _BLANK_LINE.split(text) if part.strip()]


TEXT_READERS: Mapping[str, Callable[[Path], list[str]]] = MappingProxyType({".txt": _paragraphs, ".md": _paragraphs})
"""By suffix (without that of a compression), the function that reads the texts of a file that is no table."""


def read_corpus(path: Path, column: str | None = None) -> list[str]:
    """Every text of a file, or of all files below a folder in order of their names, without repetitions.

    Args:
        column: the text column of tables. Default: the first of "text", "sentence", "content", "body",
            "narrative" that exists.

    Raises:
        DataError: absent, unreadable, of an unknown kind, not UTF-8, without such a column, or without any text.
    """
    if not path.exists():
        raise DataError(f"{path}: no such data file or folder: check the path")
    files = sorted(file for file in path.rglob("*") if _is_text(file)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: the folder holds no text: put *{', *'.join(_kinds())} files there")
    texts = list(dict.fromkeys(text for file in files for text in _read_file(file, column)))
    if not texts:
        raise DataError(f"{path}: it holds no text")
    return texts


def read_text_dataset(path: Path, column: str | None = None) -> Dataset:
    """The same as examples without labels."""
    return Dataset(tuple(Example(text, 0) for text in read_corpus(path, column)), (), str(path))


def read_split(path: Path, column: str | None, group_column: str | None, share: float) -> tuple[Dataset, Dataset]:
    """Split a corpus into training texts and test texts: about `share` of its groups, or else of its texts.

    If one value of `group_column` (a company, a year) wrote several texts, measure on values never seen: texts of
    one hand resemble each other. The share is of groups, drawn by the hash of their value.

    Raises:
        DataError: see `read_corpus`. Also if `group_column` is given for a file that is no table, or if a side has no
        text.
    """
    if group_column is None:
        train, test = split_held_out(read_corpus(path, column), share)
    else:
        if path.is_dir() or file_kind(path) in TEXT_READERS:
            raise DataError(f"{path}: only a table has a column {group_column}: leave the group column out")
        table = open_table(path)
        chosen = _text_column(path, table, column)
        if group_column not in table.columns:
            raise missing_column(path, group_column, table)
        rows = [
            [as_text(path, number, name, row.get(name)).strip() for name in (chosen, group_column)]
            for number, row in table.rows
        ]
        groups = sorted({group for _, group in rows})
        tested = set(split_held_out(groups, share)[1]) or set(groups[:1])
        sides: tuple[dict[str, None], dict[str, None]] = ({}, {})
        for text, group in rows:
            if text:
                sides[group in tested][text] = None
        train, test = [text for text in sides[0] if text not in sides[1]], list(sides[1])
    if not train or not test:
        raise DataError(f"{path}: too few texts or groups to hold some out: name a held-out file")
    return tuple(Dataset(tuple(Example(t, 0) for t in side), (), str(path)) for side in (train, test))  # type: ignore[return-value]


def _kinds() -> tuple[str, ...]:
    return (*TEXT_READERS, *OPENERS)


def _is_text(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file_kind(file) in _kinds()


def _read_file(file: Path, column: str | None) -> Iterable[str]:
    if reader := TEXT_READERS.get(file_kind(file)):
        return reader(file)
    if file_kind(file) not in OPENERS:
        raise DataError(f"{file}: unknown format: name it *{', *'.join(_kinds())}")
    table = open_table(file)
    chosen = _text_column(file, table, column)
    return [text for number, row in table.rows if (text := as_text(file, number, chosen, row.get(chosen)).strip())]


def _text_column(file: Path, table: Table, column: str | None) -> str:
    chosen = column or next((name for name in _TEXT_COLUMNS if name in table.columns), "text")
    if chosen not in table.columns:
        raise missing_column(file, chosen, table)
    return chosen


def split_held_out(texts: Sequence[str], share: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split texts in those to learn from and those to measure on, by their hash: a text is always on the same side.

    Paragraphs of one document can land on both sides. If documents are known, split by them instead.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        draw = int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:8])
        sides[draw < share * 2**64].append(text)
    return sides


def python_reference_text() -> list[str]:
    """About 700 paragraphs (35,000 words) that have nothing to do with finance: Python's own language reference.

    It comes with every Python, so forgetting can be measured anywhere and warming up needs no download. It is
    technical prose: a reference for comparisons, not a sample of all English.
    """
    from pydoc_data.topics import topics  # half a megabyte that only this function needs

    parts = (" ".join(part.split()) for topic in topics.values() for part in _BLANK_LINE.split(topic))
    return [part for part in dict.fromkeys(parts) if len(part.split()) >= 25 and _is_prose(part)]


def public_texts(path: Path | None, most: int, seed: int) -> list[str]:
    """Up to `most` texts of a public corpus, in an order that the seed decides. Without a path they come from Python's
    language reference.

    Raises:
        DataError: see `read_corpus`.
    """
    if path is None:
        return python_reference_text()
    texts = read_corpus(path)
    random.Random(seed).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts[:most]


def _is_prose(text: str) -> bool:
    return sum(character.isalpha() or character == " " for character in text) > 0.9 * len(text)

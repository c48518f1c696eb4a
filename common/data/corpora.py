"""Unlabelled text: a corpus is any file or folder of it.

Plain text is cut into paragraphs at blank lines. Tables (CSV, JSON lines, Parquet) give one text a row. All but
Parquet may be gzipped (`.gz`). Nothing is quoted in a message: files are named, rows numbered.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.data.datasets import Dataset, Example
from common.data.tables import FORMATS, missing_column, read_rows, read_text
from common.errors import DataError

__all__ = ["public_texts", "python_reference_text", "read_corpus", "read_split", "read_text_dataset", "split_held_out"]

_PLAIN = (".txt", ".md")
_TEXT_COLUMNS = ("text", "sentence", "content", "body", "narrative")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


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
        raise DataError(f"{path}: the folder holds no text: put *{', *'.join((*_PLAIN, *FORMATS))} files there")
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
        if path.is_dir() or _kind(path) in _PLAIN:
            raise DataError(f"{path}: only a table has a column {group_column}: leave the group column out")
        rows = read_rows(path)
        chosen = _text_column(path, rows, column)
        if group_column not in rows[0]:
            raise missing_column(path, group_column, rows[0])
        groups = sorted({row[group_column] for row in rows})
        tested = set(split_held_out(groups, share)[1]) or {groups[0]}
        sides: tuple[dict[str, None], dict[str, None]] = ({}, {})
        for row in rows:
            if text := row.get(chosen, "").strip():
                sides[row[group_column] in tested][text] = None
        train, test = [text for text in sides[0] if text not in sides[1]], list(sides[1])
    if not train or not test:
        raise DataError(f"{path}: too few texts or groups to hold some out: name a held-out file")
    return tuple(Dataset(tuple(Example(t, 0) for t in side), (), str(path)) for side in (train, test))  # type: ignore[return-value]


def _kind(file: Path) -> str:
    return (Path(file.stem).suffix if file.suffix == ".gz" else file.suffix).lower()


def _is_text(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and _kind(file) in (*_PLAIN, *FORMATS)


def _read_file(file: Path, column: str | None) -> Iterable[str]:
    if _kind(file) not in (*_PLAIN, *FORMATS):
        raise DataError(f"{file}: unknown format: name it *{', *'.join((*_PLAIN, *FORMATS))}")
    if _kind(file) not in _PLAIN:
        rows = read_rows(file)
        chosen = _text_column(file, rows, column)
        return [text for row in rows if (text := row.get(chosen, "").strip())]
    text = read_text(file)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{file}: it is not UTF-8: convert the file")
    return [" ".join(part.split()) for part in _BLANK_LINE.split(text) if part.strip()]


def _text_column(file: Path, rows: Sequence[Mapping[str, str]], column: str | None) -> str:
    chosen = column or next((name for name in _TEXT_COLUMNS if name in rows[0]), "text")
    if not any(chosen in row for row in rows):
        raise missing_column(file, chosen, rows[0])
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

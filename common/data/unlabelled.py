"""The reader of rows that a trained model is to label or to respond to: texts, words and prompts."""

from collections.abc import Sequence
from pathlib import Path

from common.data.cells import as_text, as_texts, is_utf8
from common.data.conll import open_conll
from common.data.conversations import find_form
from common.data.datasets import Turn
from common.data.files import OPENERS, data_files, open_table
from common.data.raw_text import file_kind, read_text
from common.data.table import missing_column
from common.errors import DataError
from common.tasks import Head

__all__ = ["read_prompts", "read_texts", "texts_of_lines"]

_LINES = (".txt", ".md")
_FLAT = (".csv", ".tsv")


def read_texts(path: Path, text_column: str | None = None) -> list[str | tuple[str, ...]]:
    """Return texts without labels, for predictions.

    Args:
        path: A table, a `.txt` file with a text a line, or a CoNLL file with any other name.
        text_column: Name of the column of a table. None takes "text", or otherwise "tokens".

    Returns:
        Each row's text, or its words if the file has lists of words.

    Raises:
        DataError: The file cannot be used, or a row has no text.
    """
    if file_kind(path) in _LINES:
        return list(texts_of_lines(read_text(path).splitlines(), str(path)))
    files = data_files(path, Head.TOKEN if file_kind(path) not in _FLAT else Head.SEQUENCE)
    return [text for file in files for text in _texts(file, text_column)]


def read_prompts(path: Path, text_column: str | None = None) -> list[tuple[Turn, ...]]:
    """Return the prompts of a file as turns. Responses in it are left out.

    Args:
        path: A table in one of the forms of `common.data.conversations`, or a `.txt` file with a prompt a line.
        text_column: Name of the column of a table that holds the prompts, if it has none of the usual columns.

    Raises:
        DataError: The file cannot be used, or a row has no prompt.
    """
    if file_kind(path) in _LINES:
        return [(("user", text),) for text in texts_of_lines(read_text(path).splitlines(), str(path))]
    found: list[tuple[Turn, ...]] = []
    for file in data_files(path, Head.INSTRUCTION):
        table = open_table(file)
        form = find_form(file, table, text_column, answered=False)
        found += [form.read(file, number, row, answered=False).turns for number, row in table.rows]
    if not found:
        raise DataError(f"{path}: there are no prompts")
    return found


def texts_of_lines(lines: Sequence[str], source: str) -> list[str]:
    """Return lines as texts.

    Raises:
        DataError: There are none, or one is empty or not UTF-8.
    """
    if not lines:
        raise DataError(f"{source}: there are no texts")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{source}: row {number} is empty: fill it or leave it out")
        if not is_utf8(line):
            raise DataError(f"{source}: row {number} is not UTF-8: convert the file")
    return list(lines)


def _texts(file: Path, text_column: str | None) -> list[str | tuple[str, ...]]:
    table = open_table(file) if file_kind(file) in OPENERS else open_conll(file, None)
    column = text_column or next((name for name in ("text", "tokens") if name in table.columns), "text")
    if column not in table.columns:
        raise missing_column(file, column, table)
    found: list[str | tuple[str, ...]] = []
    for number, row in table.rows:
        value = row.get(column)
        words = as_texts(file, number, column, value) if isinstance(value, list) else []
        text = " ".join(words) if words else as_text(file, number, column, value)
        if not text.strip() or not all(word.strip() for word in words):
            raise DataError(f"{file}: row {number} is empty: fill it or leave it out")
        found.append(tuple(words) if words else text)
    if not found:
        raise DataError(f"{file}: there are no texts")
    return found

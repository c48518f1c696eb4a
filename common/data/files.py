"""Which function opens which kind of data file. A new kind of file is one more entry in one of these tables."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from common.data.arrow_files import open_arrow, open_parquet
from common.data.compressed import COMPRESSED
from common.data.conll import open_conll
from common.data.delimited_files import open_delimited
from common.data.json_files import open_json, open_json_lines
from common.data.marked_lines import open_marked_lines
from common.data.raw_text import file_kind, visible_files
from common.data.spreadsheets import open_spreadsheet
from common.data.table import Opener, Table, missing_column
from common.errors import DataError
from common.tasks import Head

__all__ = ["OPENERS", "ROW_OPENERS", "data_files", "is_conll", "known_formats", "open_table", "opener_of"]

OPENERS: Mapping[str, Opener] = MappingProxyType(
    {
        ".csv": open_delimited,
        ".tsv": open_delimited,
        ".json": open_json,
        ".jsonl": open_json_lines,
        ".parquet": open_parquet,
        ".arrow": open_arrow,
        ".feather": open_arrow,
        ".xlsx": open_spreadsheet,
        ".xlsm": open_spreadsheet,
    }
)
"""By suffix (without that of a compression), the function that opens a table."""


ROW_OPENERS: Mapping[Head, Opener] = MappingProxyType({Head.TOKEN: open_conll})
"""By kind of task, the function that opens rows in a file with any other suffix than those of `OPENERS`."""

_FLAT = (".csv", ".tsv", ".xlsx", ".xlsm")
"""Formats whose cells hold no lists."""
_WORD = re.compile("[a-z]+")
_SPLITS = (("train", "training"), ("test", "valid", "validation", "dev", "eval"))


def open_table(path: Path, columns: Collection[str] | None = None) -> Table:
    """Open a file that holds a table.

    Args:
        path: The file. Its format is told from its name.
        columns: The columns that are needed. Each must exist. None means all columns.

    Raises:
        DataError: The format is unknown, the file cannot be used, or a column is missing.
    """
    kind = file_kind(path)
    opener = open_marked_lines if kind == ".txt" else OPENERS.get(kind)
    if opener is None:
        raise DataError(f"{path}: unknown format: name it {known_formats()}")
    table = opener(path, columns)
    for name in columns or ():
        if name not in table.columns:
            raise missing_column(path, name, table)
    return table


def opener_of(path: Path, head: Head) -> Opener | None:
    """Return the function that opens a file with rows of a kind of task. None if its format cannot hold them."""
    kind = file_kind(path)
    if head.labels_words and kind in _FLAT:
        return ROW_OPENERS.get(head) if kind == ".tsv" else None
    if head.labels_texts and kind == ".txt":
        return open_marked_lines
    return OPENERS.get(kind) or ROW_OPENERS.get(head)


def is_conll(path: Path, head: Head) -> bool:
    """Return whether a file has the words of sentences in lines. Then its documents are its customers."""
    return head.labels_words and opener_of(path, head) is open_conll


def data_files(path: Path, head: Head) -> list[Path]:
    """Return the files that hold the rows of a data set.

    Args:
        path: A file, a pattern such as `train-*.parquet`, a folder of files, or a folder that `Dataset.save_to_disk` of
            Hugging Face `datasets` wrote.
        head: Kind of the task.

    Returns:
        The files in order of their names, or in the order that `datasets` recorded.

    Raises:
        DataError: There is no such file, or the folder holds none, or it holds several splits.
    """
    if path.is_dir():
        return _folder(path, head)
    if not path.exists() and any(sign in path.name for sign in "*?["):
        found = sorted(each for each in path.parent.glob(path.name) if each.is_file())
        if not found:
            raise DataError(f"{path}: no file matches the pattern: check it")
        return found
    return [path]


def _folder(path: Path, head: Head) -> list[Path]:
    if (path / "dataset_dict.json").exists():
        raise DataError(f"{path}: it holds several splits: name one of its folders")
    if (path / "state.json").exists():
        try:
            return [path / each["filename"] for each in json.loads((path / "state.json").read_text())["_data_files"]]
        except (OSError, ValueError, LookupError, TypeError):
            raise DataError(f"{path}: its state.json is damaged: save the data set again") from None
    usable = [each for each in visible_files(path) if opener_of(each, head)]
    tables = [each for each in usable if file_kind(each) in OPENERS]
    # Beside other tables, a .json file describes them.
    found = [each for each in tables if file_kind(each) != ".json"] or tables or usable
    if not found:
        raise DataError(f"{path}: the folder holds no rows: put {known_formats()} files there")
    words = [set(_WORD.findall(each.name.lower())) for each in found]
    if all(any(name in split for name in names for split in words) for names in _SPLITS):
        raise DataError(f"{path}: it holds training and test files: name a file, or a pattern such as train-*.parquet")
    return found


def known_formats() -> str:
    """Return the names of the formats for a message."""
    return f"*{', *'.join(OPENERS)} (each may also end in {', '.join(COMPRESSED)})"

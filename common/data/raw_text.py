"""The bytes of a data file and the text in them: decompressed, and decoded if they are text at all."""

import logging
from pathlib import Path

from common.data.compressed import expanded_bytes, file_kind
from common.data.encodings import UTF16, encoding_of
from common.errors import DataError

__all__ = ["file_kind", "read_bytes", "read_text", "visible_files"]

_BINARY_BEGINNINGS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF", b"\x1f\x8b", b"PAR1", b"ARROW1", b"SQLite format 3")

log = logging.getLogger(__name__)


def visible_files(folder: Path) -> list[Path]:
    """Return all files below a folder in order of their names, without those whose name or folder begins with a dot."""
    return [
        each
        for each in sorted(folder.rglob("*"))
        if each.is_file() and not any(part.startswith(".") for part in each.relative_to(folder).parts)
    ]


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, decompressed if its name says that it is compressed.

    Raises:
        DataError: The file is absent, unreadable, empty or damaged, or expands to far more than text would.
    """
    data = expanded_bytes(path)
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    return data


def read_text(path: Path) -> str:
    """Return the text of a file. It is UTF-8, UTF-16 with a byte-order mark, or Windows-1252, see `encoding_of`.

    If the only line ends are carriage returns, they become newlines: old programs for the Mac write them.

    Bytes of no known encoding become lone surrogates, so that the caller can name their row and column.

    Raises:
        DataError: See `read_bytes`. Also if the file holds no text, such as a spreadsheet or an archive.
    """
    data = read_bytes(path)
    name = encoding_of(data)
    if data.startswith(UTF16) and name is None:
        raise DataError(f"{path}: it is not UTF-8 or UTF-16: convert the file")
    if not data.startswith(UTF16) and (data.startswith(_BINARY_BEGINNINGS) or b"\0" in data):
        raise DataError(f"{path}: it is not a text file, whatever its name says: export the rows as text")
    if name == "cp1252":
        log.warning("%s: it is not UTF-8 and was read as Windows-1252: save it as UTF-8 if letters look wrong", path)
    text = data.decode(name) if name else data.decode("utf-8-sig", errors="surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")

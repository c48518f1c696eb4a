"""The bytes of a data file and the text in them: decompressed, and decoded if they are text at all."""

import codecs
import gzip
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from common.errors import DataError

__all__ = ["DECOMPRESSORS", "file_kind", "read_bytes", "read_text"]

DECOMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({".gz": gzip.decompress})
"""By the last suffix of a compressed file, the function that undoes the compression of its bytes."""

_DAMAGED = (EOFError, ValueError, zlib.error, gzip.BadGzipFile)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY_BEGINNINGS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF", b"\x1f\x8b", b"PAR1", b"ARROW1", b"SQLite format 3")


def file_kind(path: Path) -> str:
    """Return the suffix that names the format, in lower case, without the suffix of a compression.

    >>> file_kind(Path("rows.CSV.gz"))
    '.csv'
    """
    return (Path(path.stem).suffix if path.suffix.lower() in DECOMPRESSORS else path.suffix).lower()


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, decompressed if its last suffix is one of `DECOMPRESSORS`.

    Raises:
        DataError: The file is absent, unreadable or empty, or its compressed data is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such data file: check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None
    suffix = path.suffix.lower()
    if suffix in DECOMPRESSORS:
        try:
            data = DECOMPRESSORS[suffix](data)
        except _DAMAGED:
            name = {".gz": "gzip"}.get(suffix, suffix.lstrip("."))
            raise DataError(f"{path}: the {name} data is damaged or cut short: copy the file again") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    return data


def read_text(path: Path) -> str:
    """Return the text of a file. It is UTF-8, or UTF-16 with a byte-order mark.

    Bytes that are not UTF-8 become lone surrogates, so that the caller can name their row and column.

    Raises:
        DataError: See `read_bytes`. Also if the file holds no text, such as a spreadsheet or an archive.
    """
    data = read_bytes(path)
    if data.startswith(_UTF16):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise DataError(f"{path}: it is not UTF-8 or UTF-16: convert the file") from None
    if data.startswith(_BINARY_BEGINNINGS) or b"\0" in data:
        raise DataError(f"{path}: it is not a text file, whatever its name says: export the rows as text")
    return data.decode("utf-8-sig", errors="surrogateescape")

"""Compressed files (`.gz`, `.bz2`, `.xz`, `.zip` with one member) as bytes, with a limit on their expanded size."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import IO, Any

from common.errors import DataError

__all__ = ["COMPRESSED", "Expansion", "expanded_bytes", "file_kind"]

_OPENERS: Mapping[str, Callable[[Path], Any]] = MappingProxyType({".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open})
COMPRESSED = (*_OPENERS, ".zip")
_NAMES = {".gz": "gzip"}

_LARGEST = 4 * 2**30
"""Largest expanded size, in bytes. Rows are held in memory, and take several times the size of the file."""
_ALWAYS_ALLOWED = 256 * 2**20
"""Expanded size, in bytes, that is allowed for any compressed file."""
_HIGHEST_RATIO = 100
"""Largest ratio of expanded to compressed size beyond `_ALWAYS_ALLOWED`. Text reaches 3 to 20, repeated bytes 1,000."""
_CHUNK = 2**20


class Expansion:
    """Counts the bytes to which a file expands, and refuses it beyond a limit that its size sets.

    Args:
        path: The file.
        size: Its size in bytes.
        remedy: What to do about a file that is refused.
    """

    def __init__(self, path: Path, size: int, remedy: str = "unpack it yourself if you trust it") -> None:
        self._path, self._size, self._remedy = path, max(1, size), remedy
        self._bytes = 0
        self.most = min(_LARGEST, max(_ALWAYS_ALLOWED, _HIGHEST_RATIO * size))

    def add(self, count: int) -> None:
        """Count bytes. Raises DataError if they are too many together with those before."""
        self._bytes += count
        self.check(self._bytes)

    def check(self, count: int) -> None:
        """Raise DataError if so many bytes are too many."""
        if count > self.most:
            raise DataError(
                f"{self._path}: it expands to more than {self.most // 2**20:,} MiB, "
                f"{self.most // self._size:,} times its size: {self._remedy}"
            )


def file_kind(path: Path) -> str:
    """Return the suffix that tells the format, in lower case and without compression: ".csv" for `rows.csv.gz`.

    The format of a `.zip` file is the one of its only member.

    >>> file_kind(Path("rows.CSV.gz"))
    '.csv'

    Raises:
        DataError: The zip file cannot be read, or has not exactly one member.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip" and path.is_file():
        return PurePath(_member(path, _archive(path)).filename).suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def expanded_bytes(path: Path) -> bytes:
    """Return the content of a file, expanded if its name ends in one of `COMPRESSED`.

    Raises:
        DataError: The file is absent, unreadable, damaged, or expands beyond the limit.
    """
    suffix = path.suffix.lower()
    damaged = f"{path}: the {_NAMES.get(suffix, suffix[1:])} data is damaged or cut short: copy the file again"
    try:
        if suffix not in COMPRESSED:
            return path.read_bytes()
        if suffix == ".zip":
            archive = _archive(path)
            with archive.open(_member(path, archive)) as member:
                return _limited(path, member)
        with _OPENERS[suffix](path) as expanded:
            return _limited(path, expanded)
    except FileNotFoundError:
        raise DataError(f"{path}: no such data file: check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError):
        raise DataError(damaged) from None
    except RuntimeError:
        raise DataError(f"{path}: the zip file is encrypted: unpack it, and give the file inside") from None
    except OSError as error:
        if error.strerror is None:  # bz2 reports damaged data as a plain OSError
            raise DataError(damaged) from None
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None


def _limited(path: Path, file: IO[bytes]) -> bytes:
    expansion = Expansion(path, path.stat().st_size)
    content = io.BytesIO()
    while chunk := file.read(_CHUNK):
        content.write(chunk)
        expansion.add(len(chunk))
    return content.getvalue()


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    except zipfile.BadZipFile:
        raise DataError(f"{path}: the zip data is damaged or cut short: copy the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the only file of an archive. Folders, and the notes that macOS adds, do not count."""
    members = [
        each
        for each in archive.infolist()
        if not each.is_dir() and not each.filename.startswith("__MACOSX/") and not each.filename.endswith(".DS_Store")
    ]
    if len(members) != 1:
        raise DataError(f"{path}: the zip file holds {len(members):,} files, not one: unpack it")
    return members[0]

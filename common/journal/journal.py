"""An append-only file in which every edit shows: JSON lines, hash-chained, signed, fsynced one by one.

Beside `name` stands `name.head`, a signed count, length and last hash: a file cut at the end of a line does not
match it. One process writes at a time (`flock`). After a crash the file holds every entry that `append` returned, and
perhaps the one it was writing. Half a line, never acknowledged, is cut off when the journal is opened again.

Not detected: both files rolled back to the same earlier state, or carried on as two copies. The deletion of both files
is detected if the caller knows that the journal was begun. Compare the number of entries with the number that others
were told before (the hub's audit log holds each institution's epsilon), and keep them on storage that the trainings
cannot roll back.
"""

import contextlib
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from common.canonical import canonical, is_name, parse_object
from common.errors import LedgerError
from common.files import try_lock, write_atomic
from common.identity.keys import PrivateKeys, PublicKeys
from common.journal.line_format import (
    Entry,
    Head,
    digest,
    genesis,
    head_path,
    last_digest,
    parse_entry,
    read_head,
    read_lines,
)

__all__ = ["Journal", "verify"]


class Journal:
    """An open journal. Use it as a context manager. `purpose` is signed too: one journal cannot pose as another."""

    def __init__(self, path: Path, keys: PrivateKeys, handle: int, head: Head, entries: list[Entry]) -> None:
        self._path, self._keys, self._handle, self._head, self._entries = path, keys, handle, head, entries
        self._mutex, self._process, self._usable = threading.Lock(), os.getpid(), True

    @classmethod
    def open(cls, path: Path, keys: PrivateKeys, purpose: str = "journal", *, begun: bool = False) -> Self:
        """Open, or begin, the journal at `path`, and hold it until `close`. A journal that is known to be `begun` must
        exist.

        Raises:
            LedgerError: held by another process, edited, cut, of another key or purpose, or not writable.
        """
        head = head_path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            create = 0 if begun or head.exists() else os.O_CREAT
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | create, 0o600)
        except FileNotFoundError:
            raise _bad(path, f"absent, though begun: restore it and {head.name} from their backup") from None
        except OSError as error:
            raise _bad(path, f"cannot be opened ({error.strerror})") from None
        try:
            if not try_lock(handle):
                raise _bad(path, "held by another process: let that one end first")
            return cls._load(path, keys, handle, purpose, begun)
        except OSError as error:
            os.close(handle)
            raise _bad(path, f"cannot be used ({error.strerror})") from None
        except BaseException:
            os.close(handle)
            raise

    @classmethod
    def _load(cls, path: Path, keys: PrivateKeys, handle: int, purpose: str, begun: bool) -> Self:
        for leftover in path.parent.glob(f".{head_path(path).name}.*"):
            leftover.unlink(missing_ok=True)
        head, data = read_head(path, keys.public), path.read_bytes()
        if head is not None and head.purpose != purpose:
            raise _bad(path, f"its purpose is {head.purpose!r}, not {purpose!r}: correct the path")
        if head is None and (data or begun):
            raise _bad(path, f"{head_path(path).name} is absent: restore both from their backup")
        known = head or Head(purpose, 0, 0, genesis(purpose))
        # The head is signed and covers all lines before it: their own signatures are left to `verify`.
        entries, length = read_lines(path, data, known, keys.public, every_signature=False)
        if length < len(data):
            os.ftruncate(handle, length)
            os.fsync(handle)
        journal = cls(path, keys, handle, known, entries)
        if head is None or len(entries) > head.count:
            journal._acknowledge(journal._signed_head(len(entries), length, last_digest(entries, purpose)))
        return journal

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add one entry. When this returns, it survives `kill -9` and a power cut.

        Raises:
            LedgerError: not JSON, too long, or not written. After a failed write the journal must be reopened.
            TokenError: The signing key is in a token that does not sign. Nothing was written.
        """
        with self._mutex:
            if not self._usable or self._process != os.getpid():
                raise _bad(self._path, "this journal is closed, or belongs to the parent process: open it again")
            entry, line = self._next(kind, body)
            # Both signatures come before the first byte: a token that does not sign leaves the journal as it was.
            head = self._signed_head(entry.sequence, self._head.length + len(line), digest(line))
            self._usable = False
            try:
                self._write(line)
                self._acknowledge(head)
            except OSError as error:
                raise _bad(
                    self._path, f"cannot be written ({error.strerror}): nothing may go on before it can"
                ) from None
            self._entries.append(entry)
            self._usable = True
            return entry

    def close(self) -> None:
        """Let others open it. Closing twice is harmless."""
        with self._mutex:
            self._usable = False
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, kind: str, body: Mapping[str, Any]) -> tuple[Entry, bytes]:
        if not is_name(kind):
            raise _bad(self._path, "the kind of an entry must be a short name")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            # Through JSON and back, so that the entry in memory equals the entry that a reader will find.
            own = parse_object(canonical(body))
            bare = Entry(len(self._entries) + 1, time, kind, own, self._head.last, "")
            line = Entry(**vars(bare) | {"signature": self._sign(bare.signed(self._head.purpose))}).line()
            entry = parse_entry(line)
        except (TypeError, ValueError, RecursionError):
            raise _bad(self._path, f"an entry of kind {kind!r} does not fit one line of JSON") from None
        return entry, line

    def _sign(self, data: bytes) -> str:
        return self._keys.signing_key.sign(data).hex()

    def _write(self, line: bytes) -> None:
        there, here = self._path.stat(), os.fstat(self._handle)
        if (there.st_dev, there.st_ino, here.st_size) != (here.st_dev, here.st_ino, self._head.length):
            raise _bad(self._path, "changed by something else while it was open: restore it from its backup")
        try:
            if os.write(self._handle, line) != len(line):
                raise OSError(None, "no space for a whole line")
            os.fsync(self._handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._head.length)
            raise

    def _signed_head(self, count: int, length: int, last: str) -> Head:
        bare = Head(self._head.purpose, count, length, last)
        return Head(**vars(bare) | {"signature": self._sign(bare.signed())})

    def _acknowledge(self, head: Head) -> None:
        write_atomic(head_path(self._path), canonical(vars(head)) + b"\n", mode=0o600)
        self._head = head


def verify(path: Path, public: PublicKeys, purpose: str | None = None) -> tuple[Entry, ...]:
    """Return all entries of a journal after checking each signature. It needs no private key and no lock, and writes
    nothing.

    `purpose`: the purpose that the journal must have. None accepts any.

    Raises:
        LedgerError: absent, edited, cut, or of another key or purpose.
    """
    try:
        head = read_head(path, public)  # before the lines: a writer may add to them meanwhile
        data = path.read_bytes()
    except FileNotFoundError:
        raise _bad(path, "absent: restore it and its head from their backup, or correct the path") from None
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from None
    if head is None:
        raise _bad(path, f"{head_path(path).name} is absent: restore both from their backup")
    if purpose is not None and head.purpose != purpose:
        raise _bad(path, f"its purpose is {head.purpose!r}, not {purpose!r}: correct the path")
    return tuple(read_lines(path, data, head, public, every_signature=True)[0])


def _bad(path: Path, why: str) -> LedgerError:
    return LedgerError(f"{path}: {why}")

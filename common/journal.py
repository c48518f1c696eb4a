"""An append-only file in which every edit shows: JSON lines, hash-chained, signed, fsynced one by one.

Beside `name` stands `name.head`, a signed count, length and last hash: a file cut at the end of a line does not
match it. One process writes at a time (`flock`). After a crash the file holds every entry that `append` returned, and
perhaps the one it was writing; half a line, never acknowledged, is cut off when the journal is opened again.

What it cannot show: both files put back together to an earlier state, or deleted together. Compare their count with
what was told to others before (the hub's audit log holds each institution's epsilon), and keep them on storage that
the trainings cannot roll back.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature

from common.errors import LedgerError
from common.files import write_atomic
from common.keys import Keys, PublicKeys
from common.wire import canonical, is_name, parse_object

__all__ = ["Entry", "Journal", "verify"]

_ENTRY_LABEL, _HEAD_LABEL = b"fedfin journal entry 1\n", b"fedfin journal head 1\n"
_MAX_LINE_BYTES = 2**20


@dataclass(frozen=True)
class Entry:
    """One line. `sequence` counts from 1; `time` is UTC; `previous` is the SHA-256 of the line before."""

    sequence: int
    time: str
    kind: str
    body: Mapping[str, Any]
    previous: str
    signature: str

    def signed(self, purpose: str) -> bytes:
        """What the signature covers."""
        fields = {key: value for key, value in vars(self).items() if key != "signature"}
        return _ENTRY_LABEL + canonical(fields | {"purpose": purpose})

    def line(self) -> bytes:
        """The entry as it stands in the file, with its newline."""
        return canonical(vars(self)) + b"\n"


@dataclass(frozen=True)
class _Head:
    """How far the file goes: what was acknowledged."""

    purpose: str
    count: int
    length: int
    last: str
    signature: str = ""

    def signed(self) -> bytes:
        return _HEAD_LABEL + canonical({key: value for key, value in vars(self).items() if key != "signature"})


class Journal:
    """An open journal; use it as a context manager. `purpose` is signed too: one journal cannot pose as another."""

    def __init__(self, path: Path, keys: Keys, handle: int, head: _Head, entries: list[Entry]) -> None:
        self._path, self._keys, self._handle, self._head, self._entries = path, keys, handle, head, entries
        self._mutex, self._process, self._usable = threading.Lock(), os.getpid(), True

    @classmethod
    def open(cls, path: Path, keys: Keys, purpose: str = "journal") -> Self:
        """Open, or begin, the journal at `path`, and hold it until `close`.

        Raises:
            LedgerError: held by another process, edited, cut, of another key or purpose, or not writable.
        """
        head_path = _head_path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            create = 0 if head_path.exists() else os.O_CREAT
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | create, 0o600)
        except FileNotFoundError:
            raise _bad(path, f"absent, though {head_path.name} is there: restore it from its backup") from None
        except OSError as error:
            raise _bad(path, f"cannot be opened ({error.strerror})") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _bad(path, "held by another process: let that one end first") from None
            return cls._load(path, keys, handle, purpose)
        except OSError as error:
            os.close(handle)
            raise _bad(path, f"cannot be used ({error.strerror})") from None
        except BaseException:
            os.close(handle)
            raise

    @classmethod
    def _load(cls, path: Path, keys: Keys, handle: int, purpose: str) -> Self:
        for leftover in path.parent.glob(f".{_head_path(path).name}.*"):
            leftover.unlink(missing_ok=True)
        head, data = _read_head(path, keys.public), path.read_bytes()
        if head is not None and head.purpose != purpose:
            raise _bad(path, f"its purpose is {head.purpose!r}, not {purpose!r}: correct the path")
        if head is None and data:
            raise _bad(path, f"{_head_path(path).name} is absent: restore both from their backup")
        known = head or _Head(purpose, 0, 0, _genesis(purpose))
        # The head is signed and covers all lines before it: their own signatures are left to `verify`.
        entries, length = _read_lines(path, data, known, keys.public, every_signature=False)
        if length < len(data):
            os.ftruncate(handle, length)
            os.fsync(handle)
        journal = cls(path, keys, handle, known, entries)
        if head is None or len(entries) > head.count:
            journal._acknowledge(len(entries), length, _last(entries, purpose))
        return journal

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add one entry. When this returns, it survives `kill -9` and a power cut.

        Raises:
            LedgerError: not JSON, too long, or not written; after the last of these the journal must be reopened.
        """
        with self._mutex:
            if not self._usable or self._process != os.getpid():
                raise _bad(self._path, "this journal is closed, or belongs to the parent process: open it again")
            entry, line = self._next(kind, body)
            self._usable = False
            try:
                self._write(line)
                self._acknowledge(entry.sequence, self._head.length + len(line), _digest(line))
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
            # Through JSON and back, so that what is in memory is what a reader will find.
            own = parse_object(canonical(body))
            bare = Entry(len(self._entries) + 1, time, kind, own, self._head.last, "")
            line = Entry(**vars(bare) | {"signature": self._sign(bare.signed(self._head.purpose))}).line()
            entry = _entry(line)
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

    def _acknowledge(self, count: int, length: int, last: str) -> None:
        bare = _Head(self._head.purpose, count, length, last)
        head = _Head(**vars(bare) | {"signature": self._sign(bare.signed())})
        write_atomic(_head_path(self._path), canonical(vars(head)) + b"\n", mode=0o600)
        self._head = head


def verify(path: Path, public: PublicKeys, purpose: str | None = None) -> tuple[Entry, ...]:
    """All entries of a journal, each signature checked; needs no private key, no lock, and writes nothing.

    `purpose`: the one it must have; None takes any.

    Raises:
        LedgerError: absent, edited, cut, or of another key or purpose.
    """
    try:
        head = _read_head(path, public)  # before the lines: a writer may add to them meanwhile
        data = path.read_bytes()
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from None
    if head is None:
        raise _bad(path, f"{_head_path(path).name} is absent: restore both from their backup")
    if purpose is not None and head.purpose != purpose:
        raise _bad(path, f"its purpose is {head.purpose!r}, not {purpose!r}: correct the path")
    return tuple(_read_lines(path, data, head, public, every_signature=True)[0])


def _read_lines(
    path: Path, data: bytes, head: _Head, public: PublicKeys, every_signature: bool
) -> tuple[list[Entry], int]:
    """Entries, and the bytes they fill; less than all of `data` where a crash left half a line after the head."""
    if len(data) < head.length:
        raise _bad(path, f"cut short: its head counts {head.count} entries; restore both from their backup")
    entries: list[Entry] = []
    last, position = _genesis(head.purpose), 0
    for limit, committed in ((head.length, True), (len(data), False)):
        while position < limit:
            end = data.find(b"\n", position, limit) + 1
            line = data[position:end]
            # Zero bytes are blocks that a power cut left unwritten.
            if not committed and (not line or b"\0" in line):
                return entries, position
            try:
                entry = _entry(line)
                if (entry.sequence, entry.previous) != (len(entries) + 1, last):
                    raise ValueError("not the next of the chain")
                if every_signature or not committed:
                    _check_signature(public, entry.signature, entry.signed(head.purpose))
            except (ValueError, InvalidSignature):
                what = f"line {len(entries) + 1} was edited: restore it and its head from their backup"
                raise _bad(path, what) from None
            entries.append(entry)
            last, position = _digest(line), end
        if committed and (len(entries), last) != (head.count, head.last):
            raise _bad(path, "does not end where its head says: restore both from their backup")
    return entries, position


def _read_head(path: Path, public: PublicKeys) -> _Head | None:
    """The verified head; None where there is none."""
    name = _head_path(path)
    try:
        data = name.read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields = parse_object(data[:_MAX_LINE_BYTES])
        types = {"purpose": str, "count": int, "length": int, "last": str, "signature": str}
        _check_types(fields, types)
        head = _Head(**fields)
        if canonical(fields) + b"\n" != data:
            raise ValueError("not as it was written")
        _check_signature(public, head.signature, head.signed())
    except (ValueError, InvalidSignature):
        raise _bad(name, "edited, or signed with another key: restore both files from their backup") from None
    return head


def _entry(line: bytes) -> Entry:
    """One line, read strictly: ValueError unless it is byte for byte what an Entry writes."""
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError("too long")
    fields = parse_object(line)
    types = {"sequence": int, "time": str, "kind": str, "body": dict, "previous": str, "signature": str}
    _check_types(fields, types)
    entry = Entry(**fields)
    if entry.line() != line:
        raise ValueError("not as it was written")
    return entry


def _check_signature(public: PublicKeys, signature: str, data: bytes) -> None:
    raw = bytes.fromhex(signature)
    if raw.hex() != signature:
        raise ValueError("other spellings of the same number count as edits")
    public.signing_key.verify(raw, data)


def _check_types(fields: Mapping[str, Any], types: Mapping[str, type]) -> None:
    if fields.keys() != types.keys() or any(type(fields[key]) is not kind for key, kind in types.items()):
        raise ValueError("fields are missing, foreign or of another type")


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _genesis(purpose: str) -> str:
    """What the first entry follows."""
    return _digest(_ENTRY_LABEL + canonical({"purpose": purpose}))


def _last(entries: list[Entry], purpose: str) -> str:
    return _digest(entries[-1].line()) if entries else _genesis(purpose)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bad(path: Path, why: str) -> LedgerError:
    return LedgerError(f"{path}: {why}")

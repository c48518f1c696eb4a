"""The lines of a journal and its head: how they are written, and read back strictly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature

from common.canonical import canonical, parse_object
from common.errors import LedgerError
from common.identity.keys import PublicKeys

__all__ = [
    "Entry",
    "Head",
    "digest",
    "genesis",
    "head_path",
    "last_digest",
    "parse_entry",
    "read_head",
    "read_lines",
]

_ENTRY_LABEL, _HEAD_LABEL = b"fedfin journal entry 1\n", b"fedfin journal head 1\n"
_MAX_LINE_BYTES = 2**20


@dataclass(frozen=True)
class Entry:
    """One line. `sequence` counts from 1. `time` is UTC. `previous` is the SHA-256 of the line before."""

    sequence: int
    time: str
    kind: str
    body: Mapping[str, Any]
    previous: str
    signature: str

    def signed(self, purpose: str) -> bytes:
        """Return the bytes that the signature covers."""
        fields = {key: value for key, value in vars(self).items() if key != "signature"}
        return _ENTRY_LABEL + canonical(fields | {"purpose": purpose})

    def line(self) -> bytes:
        """The entry as it stands in the file, with its newline."""
        return canonical(vars(self)) + b"\n"


@dataclass(frozen=True)
class Head:
    """The acknowledged length of the file."""

    purpose: str
    count: int
    length: int
    last: str
    signature: str = ""

    def signed(self) -> bytes:
        """Return the bytes that the signature covers."""
        return _HEAD_LABEL + canonical({key: value for key, value in vars(self).items() if key != "signature"})


def read_lines(
    path: Path, data: bytes, head: Head, public: PublicKeys, every_signature: bool
) -> tuple[list[Entry], int]:
    """Return the entries and the number of bytes that they fill. It is less than the length of `data` if a crash left
    half a line after the head.

    Raises:
        LedgerError: cut, edited, reordered, or signed with another key.
    """
    if len(data) < head.length:
        raise _bad(path, f"cut short: its head counts {head.count} entries; restore both from their backup")
    entries: list[Entry] = []
    last, position = genesis(head.purpose), 0
    for limit, committed in ((head.length, True), (len(data), False)):
        while position < limit:
            end = data.find(b"\n", position, limit) + 1
            line = data[position:end]
            # Zero bytes are blocks that a power cut left unwritten.
            if not committed and (not line or b"\0" in line):
                return entries, position
            try:
                entry = parse_entry(line)
                if (entry.sequence, entry.previous) != (len(entries) + 1, last):
                    raise ValueError("not the next of the chain")
                if every_signature or not committed:
                    _check_signature(public, entry.signature, entry.signed(head.purpose))
            except (ValueError, InvalidSignature):
                what = f"line {len(entries) + 1} was edited: restore it and its head from their backup"
                raise _bad(path, what) from None
            entries.append(entry)
            last, position = digest(line), end
        if committed and (len(entries), last) != (head.count, head.last):
            raise _bad(path, "does not end where its head says: restore both from their backup")
    return entries, position


def read_head(path: Path, public: PublicKeys) -> Head | None:
    """Return the verified head, or None if there is none.

    Raises:
        LedgerError: edited, or signed with another key. OSError: the file cannot be read.
    """
    name = head_path(path)
    try:
        data = name.read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields = parse_object(data[:_MAX_LINE_BYTES])
        types = {"purpose": str, "count": int, "length": int, "last": str, "signature": str}
        _check_types(fields, types)
        head = Head(**fields)
        if canonical(fields) + b"\n" != data:
            raise ValueError("not as it was written")
        _check_signature(public, head.signature, head.signed())
    except (ValueError, InvalidSignature):
        raise _bad(name, "edited, or signed with another key: restore both files from their backup") from None
    return head


def parse_entry(line: bytes) -> Entry:
    """One line, read strictly: ValueError unless an Entry writes the same bytes."""
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


def head_path(path: Path) -> Path:
    """Where the head of the journal at `path` lies."""
    return path.with_name(path.name + ".head")


def genesis(purpose: str) -> str:
    """Return the digest that the first entry follows."""
    return digest(_ENTRY_LABEL + canonical({"purpose": purpose}))


def last_digest(entries: list[Entry], purpose: str) -> str:
    """Return the digest that the next entry follows."""
    return digest(entries[-1].line()) if entries else genesis(purpose)


def digest(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def _bad(path: Path, why: str) -> LedgerError:
    return LedgerError(f"{path}: {why}")

"""Encrypt key files at rest by a passphrase.

Key files are encrypted with random secrets of 32 bytes. One file, the lock, holds these secrets, each under a name
(slot) and wrapped by scrypt and AES-256-GCM under the passphrase. So a change of the passphrase replaces one file, and
a process can be given the secret of one slot without the passphrase and without the other secrets.

A passphrase comes from a file, from the systemd credential `fedfin-passphrase`, or from the terminal.
"""

import json
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from common.canonical import canonical, parse_object
from common.errors import PassphraseError
from common.files import read_limited, write_atomic
from common.identity.keyring import recall, remember
from common.identity.secret_input import ask, forget_credentials, has_terminal, read_credential, read_secret_file

__all__ = [
    "CREDENTIAL",
    "LEAST_CHARACTERS",
    "Lock",
    "changed_passphrase",
    "forget",
    "is_encrypted",
    "new_passphrase",
    "read_passphrase_from",
    "unlock",
]

CREDENTIAL = "fedfin-passphrase"
"""Name of the systemd credential that holds the passphrase."""
LEAST_CHARACTERS = 12
_NOUN = "passphrase"
_FORMAT = "fedfin-passphrase-1"
_HEAD_BYTES = 48
_MOST_LOCK_BYTES = 16_384
_COST = 2**16
"""Cost n of scrypt (RFC 7914), with r = 8 and p = 1: 64 MiB of memory for each guess of a passphrase."""
_LARGEST_COST = 2**20
_SECRET_BYTES, _SALT_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 16, 12, 16

_files: list[Path] = []
_typed: list[bytes] = []


@dataclass(frozen=True)
class _Wrapped:
    """A secret under a passphrase. All but `cost` are bytes in hex."""

    cost: int
    salt: str
    nonce: str
    sealed: str

    @classmethod
    def make(cls, slot: str, secret: bytes, passphrase: bytes, salt: bytes) -> Self:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(_stretch(passphrase, salt, _COST)).encrypt(nonce, secret, _context(slot))
        return cls(_COST, salt.hex(), nonce.hex(), sealed.hex())

    def open(self, slot: str, passphrase: bytes) -> bytes | None:
        """Return the secret, or None if the passphrase is another one."""
        key = AESGCM(_stretch(passphrase, bytes.fromhex(self.salt), self.cost))
        try:
            return key.decrypt(bytes.fromhex(self.nonce), bytes.fromhex(self.sealed), _context(slot))
        except InvalidTag:
            return None


@dataclass(frozen=True)
class Lock:
    """The wrapped secrets of a hub or of an institution.

    Args:
        path: The file.
        slots: The wrapped secrets by name.
    """

    path: Path
    slots: Mapping[str, _Wrapped]

    @classmethod
    def create(cls, path: Path, slots: Sequence[str], passphrase: bytes, mode: int = 0o600) -> Self:
        """Write a lock with new secrets, which this process then holds. Raises OSError.

        Args:
            path: The file.
            slots: Names of the secrets.
            passphrase: Passphrase of all of them.
            mode: Mode of the file.
        """
        new = {slot: secrets.token_bytes(_SECRET_BYTES) for slot in slots}
        return cls(path, {})._write(new, passphrase, mode)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a lock.

        Raises:
            PassphraseError: It is absent, unreadable or damaged.
        """
        try:
            fields = parse_object(read_limited(path, _MOST_LOCK_BYTES))
            if fields.pop("format") != _FORMAT:
                raise ValueError
            slots = {slot: _Wrapped(**value) for slot, value in fields.items()}
            for each in slots.values():
                if type(each.cost) is not int or not 1 < each.cost <= _LARGEST_COST or each.cost & (each.cost - 1):
                    raise ValueError
                lengths = [len(bytes.fromhex(text)) for text in (each.salt, each.nonce, each.sealed)]
                if lengths != [_SALT_BYTES, _NONCE_BYTES, _SECRET_BYTES + _TAG_BYTES]:
                    raise ValueError
        except OSError as error:
            raise PassphraseError(f"{path}: cannot be read ({error.strerror}): restore it from its backup") from None
        except (ValueError, KeyError, TypeError):
            raise PassphraseError(f"{path}: damaged: restore it from its backup") from None
        return cls(path, slots)

    def change(self, slots: Sequence[str], passphrase: bytes) -> Self:
        """Give some secrets another passphrase. The file is replaced at once, and its mode stays.

        Args:
            slots: Names of the secrets, all of which this process holds.
            passphrase: The new passphrase.
        """
        held = {slot: secret for slot in slots if (secret := recall(self.path, slot)) is not None}
        return self._write(held, passphrase, stat.S_IMODE(self.path.stat().st_mode))

    def _write(self, new: Mapping[str, bytes], passphrase: bytes, mode: int) -> Self:
        salt = secrets.token_bytes(_SALT_BYTES)
        slots = {**self.slots, **{name: _Wrapped.make(name, each, passphrase, salt) for name, each in new.items()}}
        value = {"format": _FORMAT, **{name: vars(each) for name, each in slots.items()}}
        write_atomic(self.path, canonical(value) + b"\n", mode=mode)
        for name, secret in new.items():
            remember(self.path, name, secret)
        return type(self)(self.path, slots)


def read_passphrase_from(files: Sequence[Path]) -> None:
    """Let `unlock` read passphrases from these files, as `--passphrase-file` names them, and from nowhere else."""
    _files[:] = files


def unlock(lock: Path, slot: str) -> bytes | None:
    """Return the secret of a slot, 32 bytes, and hold it from now on. None if no key file is encrypted.

    Args:
        lock: The file of wrapped secrets.
        slot: Name of the secret.

    Raises:
        PassphraseError: There is no passphrase, it is wrong, or the file is damaged.
    """
    if (held := recall(lock, slot)) is not None:
        return held
    if not lock.exists():
        return None
    wrapped = Lock.read(lock).slots.get(slot)
    if wrapped is None:
        raise PassphraseError(f"{lock}: damaged: restore it from its backup")
    given = _given()
    for passphrase in given or _typed:
        if (secret := wrapped.open(slot, passphrase)) is not None:
            remember(lock, slot, secret)
            return secret
    if given:
        raise PassphraseError(f"{lock}: the passphrase does not open the private keys: give the right one")
    if not has_terminal():
        raise PassphraseError(
            f"{lock}: the private keys are encrypted: give --passphrase-file FILE, set the systemd credential "
            f"{CREDENTIAL}, or run the command at a terminal"
        )
    typed = ask(f"Passphrase of {lock.parent} ({slot}): ", _NOUN)
    if (secret := wrapped.open(slot, typed)) is None:
        raise PassphraseError(f"{lock}: the passphrase does not open the private keys: try again")
    _typed.append(typed)
    remember(lock, slot, secret)
    return secret


def forget() -> None:
    """Hold no passphrase any longer, typed or stretched, and name the place of none to the processes that are started.

    The secrets that were opened stay.
    """
    _typed.clear()
    _stretch.cache_clear()
    forget_credentials()


def new_passphrase() -> bytes:
    """Return the passphrase for keys that are made now: from where `unlock` finds it, else typed twice.

    Raises:
        PassphraseError: There is none, it has less than 12 characters, or the two typed ones differ.
    """
    return _chosen(_given())


def changed_passphrase(file: Path | None) -> bytes:
    """Return the passphrase that follows the present one: from `file`, else typed twice. Raises as `new_passphrase`."""
    return _chosen([] if file is None else [read_secret_file(file, _NOUN)])


def _chosen(given: list[bytes]) -> bytes:
    if given:
        chosen = given[0]
    elif has_terminal():
        chosen = ask("New passphrase: ", _NOUN)
        if ask("Again: ", _NOUN) != chosen:
            raise PassphraseError("passphrase: the two differ: try again")
    else:
        raise PassphraseError(
            "passphrase: no new one is given: name a file that holds it (see --help), or run the command at a terminal"
        )
    if len(chosen) < LEAST_CHARACTERS:
        raise PassphraseError(f"passphrase: too short: use at least {LEAST_CHARACTERS} characters")
    return chosen


def is_encrypted(key_file: Path) -> bool:
    """Return whether a key file is encrypted: a `private.json`, or a key in PEM. Raises OSError."""
    with key_file.open("rb") as file:
        return b"encrypted" in file.read(_HEAD_BYTES).lower()


def _given() -> list[bytes]:
    """Return the passphrases that can be had without asking: those of the named files, else the credential's."""
    if _files:
        return [read_secret_file(path, _NOUN) for path in _files]
    found = read_credential(CREDENTIAL, _NOUN)
    return [] if found is None else [found]


@lru_cache(maxsize=8)
def _stretch(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase)


def _context(slot: str) -> bytes:
    return json.dumps([_FORMAT, slot]).encode()

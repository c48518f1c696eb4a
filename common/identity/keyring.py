"""The secrets that open this process's encrypted key files.

`fedfin-hub start` and `fedfin-institution start` open the secrets by a passphrase (see `common.identity.passphrase`).
Each of their processes gets the secrets that it needs as one JSON object on standard input, and never the passphrase.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import PassphraseError

__all__ = ["hand_over", "recall", "receive", "remember", "remember_given"]

_MOST_BYTES = 4096

_held: dict[tuple[Path, str], bytes] = {}


def remember(lock: Path, slot: str, secret: bytes) -> None:
    """Keep a secret in the memory of this process.

    Args:
        lock: The file of wrapped secrets that it comes from.
        slot: Its name there.
        secret: 32 bytes.
    """
    _held[lock, slot] = secret


def recall(lock: Path, slot: str) -> bytes | None:
    """Return a secret that this process holds, 32 bytes. None if it does not hold it."""
    return _held.get((lock, slot))


def hand_over(lock: Path, slots: Sequence[str]) -> bytes | None:
    """Return the standard input with which a process gets these secrets. None if the key files are not encrypted.

    Args:
        lock: The file of wrapped secrets. If it is absent, no key file is encrypted.
        slots: Names of the secrets that the process needs.

    Raises:
        PassphraseError: This process does not hold one of them.
    """
    if not lock.exists():
        return None
    if any((lock, slot) not in _held for slot in slots):
        raise PassphraseError(f"{lock}: the private keys are encrypted, and this process was not given their secret")
    return json.dumps({slot: _held[lock, slot].hex() for slot in slots}).encode()


def receive(lock: Path) -> bool:
    """Keep the secrets on standard input, and return whether there were any.

    A terminal is not read. Text that is no such object is ignored, and then each key file says that it is encrypted.
    """
    if not lock.exists() or sys.stdin is None or sys.stdin.isatty():
        return False
    try:
        return remember_given(lock, sys.stdin.read(_MOST_BYTES))
    except OSError:
        return False


def remember_given(lock: Path, text: str) -> bool:
    """Keep the secrets in the text that `hand_over` returned. Return whether there were any."""
    try:
        given = {str(slot): bytes.fromhex(secret) for slot, secret in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return False
    for slot, secret in given.items():
        remember(lock, slot, secret)
    return bool(given)

"""The secrets that open this process's encrypted key files, and the PIN of a token with its signing key.

`fedfin-hub start` and `fedfin-institution start` open the secrets by a passphrase (see `common.identity.passphrase`).
Each of their processes gets the secrets that it needs as one JSON object on standard input, and never the passphrase.
A process that signs with a key in a token gets its PIN in the same way.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import PassphraseError

__all__ = ["PIN", "hand_over", "recall", "receive", "remember", "remember_given"]

PIN = "pin"
"""Name of the PIN among the secrets."""
_MOST_BYTES = 4096

_held: dict[tuple[Path, str], bytes] = {}


def remember(lock: Path, slot: str, secret: bytes) -> None:
    """Keep a secret in the memory of this process.

    Args:
        lock: The file of wrapped secrets that it comes from.
        slot: Its name there.
        secret: 32 bytes, or a PIN.
    """
    _held[lock, slot] = secret


def recall(lock: Path, slot: str) -> bytes | None:
    """Return a secret that this process holds. None if it does not hold it."""
    return _held.get((lock, slot))


def hand_over(lock: Path, slots: Sequence[str], signs: bool = False) -> bytes | None:
    """Return the standard input with which a process gets these secrets. None if it needs none.

    Args:
        lock: The file of wrapped secrets. If it is absent, no key file is encrypted.
        slots: Names of the secrets that the process needs.
        signs: Whether the process signs. It gets the PIN of the token, if this process holds one.

    Raises:
        PassphraseError: This process does not hold one of them.
    """
    slots = slots if lock.exists() else ()
    if any((lock, slot) not in _held for slot in slots):
        raise PassphraseError(f"{lock}: the private keys are encrypted, and this process was not given their secret")
    given = {slot: _held[lock, slot].hex() for slot in slots}
    if signs and (pin := recall(lock, PIN)) is not None:
        given[PIN] = pin.hex()
    return json.dumps(given).encode() if given else None


def receive(lock: Path, signs: bool = False) -> bool:
    """Keep the secrets on standard input, and return whether there were any.

    A terminal is not read. Text that is no such object is ignored, and then each key file says that it is encrypted.

    Args:
        lock: The file of wrapped secrets.
        signs: Whether the process signs with a key in a token. Otherwise nothing is read if no key is encrypted.
    """
    if not (signs or lock.exists()) or sys.stdin is None or sys.stdin.isatty():
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

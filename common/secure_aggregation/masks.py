"""Masks: the keystream of AES-256-CTR under a key that is used once, as integers modulo 2^32 or 2^64."""

import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

__all__ = ["SEED_BYTES", "MaskAdder", "derive"]

SEED_BYTES = 16
"""Secrets that are split among the institutions. 128 bits, the size of the field of `Crypto.Protocol.SecretSharing`."""
_BLOCK = 16


def derive(seed: bytes, purpose: str, context: bytes) -> bytes:
    """Return a key of 32 bytes by HMAC-SHA256.

    Args:
        seed: A uniform secret.
        purpose: Name of the use. Different uses get independent keys.
        context: Everything else that the key belongs to.
    """
    return hmac.digest(seed, b"fedfin secure aggregation 1 " + purpose.encode() + b"\n" + context, "sha256")


class MaskAdder:
    """Adds masks to a sum of `size` integers of `dtype`, which is kept in `total`."""

    def __init__(self, total: NDArray[np.unsignedinteger]) -> None:
        self.total = total
        self._zeros = bytes(total.nbytes)
        self._stream = bytearray(total.nbytes + _BLOCK - 1)

    def add(self, key: bytes) -> None:
        """Add the mask of `key`, 32 bytes that no other mask is made from."""
        np.add(self.total, self._mask(key), out=self.total)

    def subtract(self, key: bytes) -> None:
        """Subtract the mask of `key`."""
        np.subtract(self.total, self._mask(key), out=self.total)

    def _mask(self, key: bytes) -> NDArray[np.unsignedinteger]:
        # A key has one stream only, so the counter may start at zero.
        Cipher(AES(key), CTR(bytes(_BLOCK))).encryptor().update_into(self._zeros, self._stream)
        return np.frombuffer(self._stream, dtype=self.total.dtype, count=self.total.size)

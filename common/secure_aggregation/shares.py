"""Shamir's secret sharing over GF(2^128), by pycryptodome, with digests that tell a wrong share.

The library shares 16 bytes and cannot tell a wrong share: it combines any shares to some secret. So the dealer gives
the hub a digest of each share and of the secret, and only shares that match are combined. All are uniform numbers of
128 bits, so a digest says nothing of them.
"""

import hashlib
from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

__all__ = ["DIGEST_BYTES", "combine", "digest", "split"]

DIGEST_BYTES = 16


def split(secret: bytes, threshold: int, institutions: int) -> list[bytes]:
    """Return one share of 16 bytes for each institution, in order of their numbers, which begin with 1.

    Fewer than `threshold` shares say nothing of the secret.
    """
    return [share for _, share in Shamir.split(threshold, institutions, secret, ssss=False)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of at least `threshold` right shares, by the institutions' numbers."""
    chosen = sorted(shares.items())[:threshold]
    secret: bytes = Shamir.combine(chosen, ssss=False)
    return secret


def digest(value: bytes) -> bytes:
    """Return 16 bytes that only this share or secret has."""
    return hashlib.sha256(b"fedfin secure aggregation 1 share\n" + value).digest()[:DIGEST_BYTES]

"""Shamir's secret sharing over GF(2^128), by pycryptodome, with digests that tell a wrong share.

The library shares 16 bytes and cannot tell a wrong share: it combines any shares to some secret. So the dealer gives
the hub a digest of each share and of the secret, and only shares that match are combined. All are uniform numbers of
128 bits, so a digest says nothing of them.

The library works out the weights of interpolation anew for every secret. The hub combines the secrets of all absent
institutions from the shares of the same others, so `combine` keeps these weights. It gives the library's results.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from Crypto.Protocol.SecretSharing import Shamir

from common.errors import SecureAggregationRefused

__all__ = ["DIGEST_BYTES", "SHARE_BYTES", "combine", "digest", "split"]

DIGEST_BYTES = 16
SHARE_BYTES = 16
_MODULUS = 2**128 + 2**7 + 2**2 + 2 + 1
"""The polynomial of the library's field, with its coefficients as bits."""


def split(secret: bytes, threshold: int, institutions: int) -> list[bytes]:
    """Return one share of 16 bytes for each institution, in order of their numbers, which begin with 1.

    Fewer than `threshold` shares say nothing of the secret.
    """
    return [share for _, share in Shamir.split(threshold, institutions, secret, ssss=False)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of at least `threshold` right shares, by the institutions' numbers.

    Raises:
        SecureAggregationRefused: There are fewer shares, one has another length, or a number is no institution's. The
            share of number zero would be the secret itself.
    """
    chosen = sorted(shares.items())[:threshold]
    if len(chosen) < max(1, threshold) or any(
        not 1 <= number < 2**128 or len(share) != SHARE_BYTES for number, share in chosen
    ):
        raise SecureAggregationRefused("error", "secure aggregation: too few shares of a secret, or no shares at all")
    secret = 0
    for weight, (_, share) in zip(_weights(tuple(number for number, _ in chosen)), chosen, strict=True):
        secret ^= _times(weight, int.from_bytes(share))
    return secret.to_bytes(16)


@lru_cache(maxsize=8)
def _weights(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the factor of each share in the value at zero of the polynomial through shares of these numbers."""
    below = list(numbers)
    for place, mine in enumerate(numbers):
        for other in numbers:
            if other != mine:
                below[place] = _times(below[place], mine ^ other)
    above = 1
    for number in numbers:
        above = _times(above, number)
    return tuple(_times(above, inverse) for inverse in _inverses(below))


def _inverses(values: list[int]) -> list[int]:
    """Return the inverses of numbers that are not zero, with a single inversion: that of their product."""
    products = [1]
    for value in values:
        products.append(_times(products[-1], value))
    inverse, square = 1, products[-1]
    for _ in range(127):  # the power 2^128 - 2 is the inverse
        square = _times(square, square)
        inverse = _times(inverse, square)
    found = []
    for value, before in zip(reversed(values), reversed(products[:-1]), strict=True):
        found.append(_times(inverse, before))
        inverse = _times(inverse, value)
    return found[::-1]


def _times(one: int, other: int) -> int:
    """Return the product of two numbers of the field. It is fastest if `other` is small."""
    product = 0
    while other:
        if other & 1:
            product ^= one
        one <<= 1
        if one >> 128:
            one ^= _MODULUS
        other >>= 1
    return product


def digest(value: bytes) -> bytes:
    """Return 16 bytes that only this share or secret has."""
    return hashlib.sha256(b"fedfin secure aggregation 1 share\n" + value).digest()[:DIGEST_BYTES]

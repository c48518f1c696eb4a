"""The secrets of one round, and the keys of masks that follow from them.

Each institution has two secrets a round: one for its own mask, and one for its masks with others. Of each pair, the
institution with the lower number chooses the key of the mask. The other one encrypts that key under its own second
secret. So the second secret of either one gives the key, and one secret is all that others need if it is absent.
"""

import os
from dataclasses import dataclass
from typing import Self

from common.secure_aggregation.masks import SEED_BYTES, derive
from common.secure_aggregation.shares import DIGEST_BYTES, digest, split
from common.secure_aggregation.terms import Terms

__all__ = ["KEY_BYTES", "RoundDigests", "RoundSecrets", "pad", "pair_key"]

KEY_BYTES = 32


def _context(terms: Terms, round_: int, *names: str) -> bytes:
    return "|".join((terms.digest, str(round_), *names)).encode()


def pair_key(pair_seed: bytes, terms: Terms, round_: int, chooser: str, other: str) -> bytes:
    """Return the key of the mask of a pair, by the second secret of its chooser."""
    return derive(pair_seed, "pair", _context(terms, round_, chooser, other))


def pad(pair_seed: bytes, terms: Terms, round_: int, chooser: str, other: str, value: bytes) -> bytes:
    """Encrypt or decrypt the key of a pair under the second secret of the institution that did not choose it."""
    key = derive(pair_seed, "pad", _context(terms, round_, chooser, other))
    return bytes(a ^ b for a, b in zip(key, value, strict=True))


def own_key(own_seed: bytes, terms: Terms, round_: int, name: str) -> bytes:
    """Return the key of an institution's own mask, by its first secret."""
    return derive(own_seed, "own", _context(terms, round_, name))


@dataclass(frozen=True)
class RoundSecrets:
    """The two secrets of one institution in one round, and a share of each for every number of the roster."""

    own_seed: bytes
    pair_seed: bytes
    own_shares: tuple[bytes, ...]
    pair_shares: tuple[bytes, ...]

    @classmethod
    def draw(cls, terms: Terms) -> Self:
        """Return new secrets from the operating system."""
        own, pair = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
        number = len(terms.roster)
        return cls(own, pair, tuple(split(own, terms.threshold, number)), tuple(split(pair, terms.threshold, number)))


@dataclass(frozen=True)
class RoundDigests:
    """Digests of the secrets, shares and chosen keys of one institution in one round, for the hub.

    Attributes:
        own_seed, pair_seed: Of its two secrets.
        own_shares, pair_shares: Of each share, in order of the roster.
        pair_keys: Of the key that it chose for each other one. Zeros for those that choose themselves.
    """

    own_seed: bytes
    pair_seed: bytes
    own_shares: tuple[bytes, ...]
    pair_shares: tuple[bytes, ...]
    pair_keys: tuple[bytes, ...]

    @classmethod
    def of(cls, secrets: RoundSecrets, terms: Terms, round_: int, name: str) -> Self:
        """Return the digests of these secrets of institution `name`."""
        mine = terms.numbers[name]
        keys = [
            digest(pair_key(secrets.pair_seed, terms, round_, name, other)) if number > mine else bytes(DIGEST_BYTES)
            for other, number in terms.numbers.items()
        ]
        return cls(
            digest(secrets.own_seed),
            digest(secrets.pair_seed),
            tuple(map(digest, secrets.own_shares)),
            tuple(map(digest, secrets.pair_shares)),
            tuple(keys),
        )

    def to_bytes(self, number: int) -> bytes:
        """Return all digests of institution `number`, one after another. Keys that it did not choose are left out."""
        keys = self.pair_keys[number:]
        return b"".join((self.own_seed, self.pair_seed, *self.own_shares, *self.pair_shares, *keys))

    @staticmethod
    def size(institutions: int, number: int) -> int:
        """Return the length of `to_bytes`."""
        return DIGEST_BYTES * (2 + 3 * institutions - number)

    @classmethod
    def from_bytes(cls, data: bytes, institutions: int, number: int) -> Self:
        """Read the bytes that `to_bytes` wrote, of the length `size`."""
        parts = [data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES)]
        own, pair, rest = parts[0], parts[1], parts[2:]
        own_shares, pair_shares = rest[:institutions], rest[institutions : 2 * institutions]
        keys = [bytes(DIGEST_BYTES)] * number + rest[2 * institutions :]
        return cls(own, pair, tuple(own_shares), tuple(pair_shares), tuple(keys))

"""Randomness that privacy rests on: which examples a step draws, and the noise it adds.

An AES-256-CTR keystream, keyed by the operating system, turned into normal values by Box-Muller in float64. A run's
seed never reaches it, no two sources share a key, and a source can be neither copied nor stored.
"""

import hashlib
import math
import os
from typing import Never, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from common.errors import FedfinError

__all__ = ["FixedNoise", "NoiseSource", "SystemNoise"]


class NoiseSource(Protocol):
    """Where a private training takes its randomness from. Values are used once: no two calls repeat any."""

    def normal(self, n: int) -> NDArray[np.float64]:
        """`n` independent standard normal values, shape (n,)."""

    def uniform_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """`n` independent coins, shape (n,), each true with probability `q` (never more than `q`, less by < 2**-64)."""


class _Keystream:
    """AES-256-CTR output read as unsigned 64-bit integers."""

    def __init__(self, key: bytes) -> None:
        self._stream = _open(key)

    def _words(self, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(self._stream.update(bytes(8 * n)), dtype="<u8")

    def normal(self, n: int) -> NDArray[np.float64]:
        """Box-Muller over 53-bit uniforms: |value| is at most 8.58, beyond which a normal has mass 1e-17."""
        half = (n + 1) // 2
        uniform = (self._words(2 * half) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        radius = np.sqrt(-2.0 * np.log1p(-uniform[:half]))  # 1 - u is in (0, 1]: the logarithm is finite
        angle = (2.0 * math.pi) * uniform[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]

    def uniform_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """Coins by comparing whole 64-bit words, so that the accounted probability is the drawn one."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a probability must be between 0 and 1, not {q}")
        words = self._words(n)
        if q == 1.0:
            return np.ones(n, dtype=np.bool_)
        return words < np.uint64(int(math.ldexp(q, 64)))

    def __reduce__(self) -> Never:
        raise FedfinError("a noise source cannot be copied or stored: two trainings would share their noise")


class SystemNoise(_Keystream):
    """The source for private training: a fresh 256-bit key from the operating system for every instance.

    A forked process draws a key of its own; else parent and child would add the same noise.
    """

    def __init__(self) -> None:
        super().__init__(os.urandom(32))
        self._process = os.getpid()

    def _words(self, n: int) -> NDArray[np.uint64]:
        if self._process != os.getpid():
            self._stream, self._process = _open(os.urandom(32)), os.getpid()
        return super()._words(n)


class FixedNoise(_Keystream):
    """The same construction under a key derived from `seed`: repeats itself, protects nobody, simulation only."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(hashlib.sha256(b"fedfin fixed noise, not private|" + seed).digest())


def _open(key: bytes) -> CipherContext:
    # A key is used for one stream only, so the counter may start at zero.
    return Cipher(AES(key), CTR(bytes(16))).encryptor()

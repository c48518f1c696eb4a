"""Randomness that privacy rests on: the examples that a step draws, and the noise that it adds.

Theorem: for a vector z of integers, round(z + N(0, s^2)) = z + round(N(0, s^2)). So integer sums with rounded normal
noise are the Gaussian mechanism followed by rounding, which is post-processing, and every figure that is proven for the
Gaussian mechanism holds for them as it stands.

The noise that is drawn here is the rounded normal but for a total variation below 2^-90 per number, for deviations up
to 2^40 steps. Box-Muller turns two uniform numbers of 128 bits into two normal numbers in float64. If these are so
close to the border between two integers that float64 cannot decide, they are computed again with 60 digits. That
happens about once in 10^7 numbers at a million steps, whatever their size. Apart from it the same operations run
whatever is drawn: no value is rejected, so the time that it takes says nothing of the noise (compare arXiv 2112.05307).

The source is an AES-256-CTR keystream keyed by the operating system. A run's seed never reaches it, no two sources
share a key, and a source can be neither copied nor stored.
"""

import decimal
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

__all__ = ["FixedNoise", "NoiseSource", "SystemNoise", "rounded_normal"]

LARGEST_DEVIATION = 2.0**40
"""Steps. Beyond it float64 would leave too many numbers undecided."""

_MARGIN = 2.0**-46
"""Bound on the error of a normal number r cos(angle), over r + 1/r. The roundings of the uniform numbers, the
logarithm, the root, the angle, the cosine and the product add up to less than 10 r 2^-52 + 3 / r 2^-53 if each function
is right to two units in the last place. The margin is six times as much."""

_AT_ONCE = 4096
"""Pairs of numbers whose intermediate values fit into the processor's cache."""

_PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")
_DIGITS = decimal.Context(prec=60)

Words = NDArray[np.uint64]


class NoiseSource(Protocol):
    """The randomness of a private training. Values are used once: no two calls repeat any."""

    def rounded_normal(self, n: int, deviation: float) -> NDArray[np.int64]:
        """`n` independent normal values of standard deviation `deviation`, rounded to integers, shape (n,)."""

    def uniform_mask(self, n: int, q: float) -> NDArray[np.bool_]:
        """`n` independent coins, shape (n,), each true with probability `q` (never more than `q`, less by < 2**-64)."""


class _Keystream:
    """AES-256-CTR output read as unsigned 64-bit integers."""

    def __init__(self, key: bytes) -> None:
        self._stream = _open(key)

    def _words(self, n: int) -> Words:
        return np.frombuffer(self._stream.update(bytes(8 * n)), dtype="<u8")

    def rounded_normal(self, n: int, deviation: float) -> NDArray[np.int64]:
        """See `NoiseSource.rounded_normal`."""
        half = (n + 1) // 2
        return rounded_normal(self._words(4 * half).reshape(4, half), deviation)[:n]

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

    A forked process draws a key of its own. Otherwise parent and child would add the same noise.
    """

    def __init__(self) -> None:
        super().__init__(os.urandom(32))
        self._process = os.getpid()

    def _words(self, n: int) -> Words:
        if self._process != os.getpid():
            self._stream, self._process = _open(os.urandom(32)), os.getpid()
        return super()._words(n)


class FixedNoise(_Keystream):
    """The same construction under a key derived from `seed`. It repeats itself and protects nobody: simulation only."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(hashlib.sha256(b"fedfin fixed noise, not private|" + seed).digest())


def rounded_normal(words: Words, deviation: float) -> NDArray[np.int64]:
    """Turn uniform words into normal numbers of standard deviation `deviation`, rounded to the nearest integers.

    Args:
        words: (4, H) uniform: high and low words of the radius' number and of the angle's.
        deviation: in steps of the grid, from 0 to 2^40.

    Returns:
        (2 H,) int64. The first half are r cos(angle), the second r sin(angle).

    Raises:
        ValueError: `deviation` is out of range.
    """
    if not 0 <= deviation <= LARGEST_DEVIATION:
        raise ValueError(f"the noise's deviation is {deviation:g} steps: use a number from 0 to 2**40")
    integers = np.empty((2, words.shape[1]), dtype=np.int64)
    for start in range(0, words.shape[1], _AT_ONCE):
        part = words[:, start : start + _AT_ONCE]
        integers[:, start : start + _AT_ONCE] = _rounded_pairs(part, deviation).reshape(2, -1)
    return integers.ravel()


def _rounded_pairs(words: Words, deviation: float) -> NDArray[np.int64]:
    high, low, turn_high, turn_low = words.astype(np.float64)
    # Uniform in (0, 1), right to a few units in the last place even next to 0, where the largest numbers come from.
    uniform = high * 2.0**-64 + (low + 0.5) * 2.0**-128
    angle = (2 * math.pi) * (turn_high * 2.0**-64 + (turn_low + 0.5) * 2.0**-128)
    with np.errstate(divide="ignore", invalid="ignore"):  # radius 0 makes an infinite margin, and is computed again
        radius = np.sqrt(np.maximum(-2.0 * np.log(uniform), 0.0))
        margin = np.tile(_MARGIN * deviation * (radius + 1.0 / radius), 2)
    values = deviation * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    rounded = np.rint(values)
    undecided = ~(np.abs(np.abs(values - rounded) - 0.5) > margin)
    integers = rounded.astype(np.int64)
    half = words.shape[1]
    for place in np.flatnonzero(undecided):
        integers[place] = _precisely([int(word) for word in words[:, place % half]], deviation, sine=place >= half)
    return integers


def _precisely(words: list[int], deviation: float, sine: bool) -> int:
    """One of the numbers of `rounded_normal`, computed with 60 digits."""
    with decimal.localcontext(_DIGITS):
        scale = decimal.Decimal(2) ** 128
        uniform = ((words[0] << 64) + words[1] + decimal.Decimal("0.5")) / scale
        turn = ((words[2] << 64) + words[3] + decimal.Decimal("0.5")) / scale
        wave = _cosine(2 * _PI * (turn - decimal.Decimal("0.25") if sine else turn))
        value = decimal.Decimal(deviation) * (-2 * uniform.ln()).sqrt() * wave
        return int(value.to_integral_value(rounding=decimal.ROUND_HALF_EVEN))


def _cosine(angle: decimal.Decimal) -> decimal.Decimal:
    """By its power series, for at most one and a half turns."""
    total, term, k = decimal.Decimal(1), decimal.Decimal(1), 0
    while abs(term) > decimal.Decimal("1e-65") or k < 10:
        k += 2
        term = -term * angle * angle / (k * (k - 1))
        total += term
    return total


def _open(key: bytes) -> CipherContext:
    # A key is used for one stream only, so the counter may start at zero.
    return Cipher(AES(key), CTR(bytes(16))).encryptor()

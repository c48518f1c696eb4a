"""The integers that are added up: their grid, their range, and the noise of each institution.

Every institution holds its sum of gradients to a range before it adds its noise, so that the sum over all cannot pass
the modulus. Projection on a range makes no distance longer, so the sensitivity stays at most C. Noise beyond `TAIL`
standard deviations is as likely as 4e-33 for each number, institution and round. A sum that passed the modulus all the
same would be wrong, and its privacy would not change, since the remainder is computed from the noised sum.

**Noise.** Each of h honest institutions adds round(N(0, s^2)). The sum of h such numbers on a grid has the distribution
of G = N(0, h s^2) followed by a random rounding that does not depend on the data: to the integer k with probability
B(k - G), B being the density of the sum of h numbers that are uniform in (-1/2, 1/2). These densities at the integers
add up to 1 for every G. So the sum is the Gaussian mechanism of variance h s^2 followed by post-processing. The two
distributions differ by the aliases of a Gaussian of width s at frequency 1, at most exp(-pi^2 s^2) each. For `SMOOTH`
steps or more the total variation is far below 2^-90 per number.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigurationError

__all__ = ["SMOOTH", "TAIL", "SumRange", "grid_step"]

TAIL = 12
"""Standard deviations of one institution's noise that the range leaves room for."""
SMOOTH = 8.0
"""Smallest standard deviation of one institution's noise, in steps of the grid."""
_GRID_BITS = 20


def grid_step(clipping_norm: float) -> float:
    """Return the step of the grid of gradients, as `client.dp.grid` has it: between C / 2^20 and C / 2^19.

    >>> grid_step(1.0) == 2.0**-19
    True
    """
    return math.ldexp(1.0, math.frexp(clipping_norm)[1] - _GRID_BITS)


@dataclass(frozen=True)
class SumRange:
    """The range of one institution's numbers.

    Attributes:
        bits: 32 or 64. Sums are modulo 2^bits.
        largest: The largest absolute value of a number before noise, in steps of the grid.
    """

    bits: int
    largest: int

    @classmethod
    def of(cls, bits: int, institutions: int, deviation: float) -> "SumRange":
        """Return the range with which `institutions` summands stay below half the modulus.

        Args:
            bits: 32 or 64.
            institutions: Number of institutions in the roster.
            deviation: Standard deviation of one institution's noise, in steps.

        Raises:
            ConfigurationError: The noise is too small for the theorem above, or leaves no room for the gradients.
        """
        if bits not in (32, 64):
            raise ConfigurationError(f"secure aggregation: sums of {bits} bits: use 32 or 64")
        if deviation < SMOOTH:
            raise ConfigurationError(
                f"secure aggregation: one institution's noise is {deviation:.3g} steps of the grid: ask for more noise"
            )
        largest = (2 ** (bits - 1) - 1) // institutions - math.ceil(TAIL * deviation)
        if largest < 1:
            raise ConfigurationError("secure aggregation: the noise leaves no room for gradients: ask for less noise")
        return cls(bits, largest)

    @classmethod
    def narrowest(cls, institutions: int, deviation: float, longest: float) -> "SumRange":
        """Return the range of 32 bits if a sum of `longest` steps fits it, else that of 64.

        Args:
            institutions: Number of institutions in the roster.
            deviation: Standard deviation of one institution's noise, in steps.
            longest: Largest norm, in steps, that a sum of gradients is expected to have.

        Raises:
            ConfigurationError: See `of`.
        """
        try:
            narrow = cls.of(32, institutions, deviation)
        except ConfigurationError:
            return cls.of(64, institutions, deviation)
        return narrow if narrow.largest >= longest else cls.of(64, institutions, deviation)

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The type in which sums wrap at the modulus."""
        return np.uint32 if self.bits == 32 else np.uint64

    def hold(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """Project sums of gradients on the range."""
        return np.clip(sums, -self.largest, self.largest)


def signed(total: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Return the integers between minus and plus half the modulus that have these remainders."""
    return total.view(np.int32 if total.dtype == np.uint32 else np.int64).astype(np.int64)

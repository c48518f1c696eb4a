"""Clipped gradients and their sums as integers.

Guarantee: a unit adds a vector of integers to the sum whose L2 norm, times the grid's step, is at most the clipping
norm C. This holds exactly, for every gradient that float32 can hold, NaN and infinity among them, and for any number of
units in any order. The vector is a function of the unit's own gradient, bit for bit: every number here is one exact or
correctly rounded operation on that gradient, and every sum of squares is a sum of integers below 2^53, which float64
holds exactly.

The step is a power of two between C / 2^20 and C / 2^19. Truncation toward zero never makes a gradient longer.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from common.config.privacy import CLIPPING_NORMS
from common.errors import ConfigurationError

__all__ = ["Grid", "IntegerSum"]

_BITS = 20
_EXACT = 2.0**52  # a computed sum of squares of integers that is at most this is exact
_EXACT_ROWS = 1 << (24 - _BITS)  # so many integers up to 2^20 have a sum that float32 holds exactly
_SHORTER = 1 - 2.0**-21  # more than the two roundings of float32 can add to a product


@dataclass(frozen=True)
class Grid:
    """The grid for gradients of L2 norm at most `clipping_norm`.

    Raises:
        ConfigurationError: the clipping norm is outside `CLIPPING_NORMS`.
    """

    clipping_norm: float

    def __post_init__(self) -> None:
        low, high = CLIPPING_NORMS
        if not low <= self.clipping_norm <= high:
            raise ConfigurationError(
                f"privacy: clipping_norm is {self.clipping_norm:g}: use a number from {low:g} to {high:g}"
            )

    @property
    def step(self) -> float:
        """The distance between two neighbours of the grid, a power of two."""
        return math.ldexp(1.0, math.frexp(self.clipping_norm)[1] - _BITS)

    @property
    def radius(self) -> int:
        """The largest norm of a clipped gradient in steps: C / step, rounded down."""
        return int(self.clipping_norm / self.step)

    def clip(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Clip the gradients of whole units and put them on the grid.

        A gradient with NaN or infinity becomes zero: it has no direction to keep.

        Args:
            gradients: (U, P) float32.

        Returns:
            (U, P) float32 that holds whole numbers up to 2^20, and (U,) whether the gradient was made shorter.
        """
        whole = torch.empty_like(gradients)
        # One after another, so that the numbers of a unit stay in the processor's cache.
        wide = torch.empty(gradients.shape[1], dtype=torch.float64, device=gradients.device)
        longer = [self._clip_one(gradient, target, wide) for gradient, target in zip(gradients, whole, strict=True)]
        return whole, torch.tensor(longer, dtype=torch.bool, device=gradients.device)

    def _clip_one(self, gradient: Tensor, target: Tensor, wide: Tensor) -> bool:
        """Write one clipped gradient, (P,), to `target`, and return whether it was made shorter.

        `wide` is space for P numbers.
        """
        torch.mul(gradient, 1 / self.step, out=target).trunc_()
        squares = _squares(target, wide)
        if squares <= self.radius**2:
            return False
        if squares <= _EXACT:
            # Finer integers, of norm near 2^25, know the length better. Their exponent follows from exact squares.
            finer = math.ldexp(1.0, 25 - math.frexp(squares)[1] // 2) / self.step
            wide.copy_(gradient).mul_(finer).trunc_()
            # Truncation takes less than one from each number, hence less than sqrt(P) from the norm.
            norm = math.sqrt(float(torch.dot(wide, wide))) + math.sqrt(gradient.numel())
            torch.mul(gradient, _SHORTER * self.radius * finer / norm, out=target).trunc_()
        else:
            target.copy_(self._shorten_huge(gradient))
        if not _squares(target, wide) <= self.radius**2:
            target.zero_()  # the theorem says never; if it were wrong, the bound would hold all the same
        return True

    def _shorten_huge(self, gradient: Tensor) -> Tensor:
        """The same for one gradient, (P,), whose squares in steps exceed the integers that float64 adds exactly."""
        largest = float(gradient.abs().max())
        if not math.isfinite(largest):
            return torch.zeros_like(gradient)
        below_one = gradient.double() * math.ldexp(1.0, -math.frexp(largest)[1])
        bits = (52 - math.ceil(math.log2(gradient.numel()))) // 2
        finer = (below_one * 2.0**bits).trunc_()
        norm = math.sqrt(float(torch.dot(finer, finer))) + math.sqrt(gradient.numel())
        factor = _SHORTER * self.radius * 2.0**bits / norm
        return (below_one * factor).trunc_().to(torch.float32)


def _squares(whole: Tensor, wide: Tensor) -> float:
    """The sum of squares of (P,) whole numbers, exact up to 2^53 in any order. Overwrites `wide`, (P,)."""
    wide.copy_(whole)
    return float(torch.dot(wide, wide))


class IntegerSum:
    """The sum of clipped gradients, in steps of the grid.

    Args:
        size: numbers of a gradient.
        device: the device of the gradients.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._total = torch.zeros(size, dtype=torch.int64, device=device)

    def add(self, whole: Tensor) -> None:
        """Add (U, P) whole numbers from `Grid.clip`."""
        for part in torch.split(whole, _EXACT_ROWS):
            self._total += part.sum(0).to(torch.int64)

    def value(self) -> Tensor:
        """A copy of the sum so far, (P,) int64."""
        return self._total.clone()

    def take(self) -> Tensor:
        """Return the sum, (P,) int64 on the CPU, and begin again at zero."""
        total = self._total.cpu().clone()
        self._total.zero_()
        return total

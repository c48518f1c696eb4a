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

from common.config.run import CLIPPING_NORMS
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
        whole = (gradients * (1 / self.step)).trunc_()
        squares = _squares(whole)
        longer = ~(squares <= self.radius**2)
        if bool(longer.any()):
            whole[longer] = self._shorten(gradients[longer], squares[longer])
        return whole, longer

    def _shorten(self, gradients: Tensor, squares: Tensor) -> Tensor:
        """(L, P) gradients on the grid, from the `squares`, (L,), of their integers before clipping."""
        # Finer integers, of norm near 2^25, know the length better. Their exponent follows from exact squares.
        finer = torch.ldexp(torch.ones_like(squares), 25 - torch.frexp(squares).exponent // 2) / self.step
        norms = _squares((gradients * finer.to(torch.float32)[:, None]).trunc_()).sqrt()
        # Truncation takes less than one from each number, hence less than sqrt(P) from the norm.
        factors = _SHORTER * self.radius * finer / (norms + math.sqrt(gradients.shape[1]))
        whole = (gradients * factors.to(torch.float32)[:, None]).trunc_()
        for row in torch.nonzero(~(squares <= _EXACT)).flatten():
            whole[row] = self._shorten_huge(gradients[row])
        excess = ~(_squares(whole) <= self.radius**2)
        if bool(excess.any()):  # the theorem says never; if it were wrong, the bound would hold all the same
            whole[excess] = 0.0
        return whole

    def _shorten_huge(self, gradient: Tensor) -> Tensor:
        """The same for one gradient, (P,), whose squares in steps exceed the integers that float64 adds exactly."""
        largest = float(gradient.abs().max())
        if not math.isfinite(largest):
            return torch.zeros_like(gradient)
        below_one = gradient.double() * math.ldexp(1.0, -math.frexp(largest)[1])
        bits = (52 - math.ceil(math.log2(gradient.numel()))) // 2
        norm = math.sqrt(float(_squares((below_one * 2.0**bits).trunc_()[None])[0])) + math.sqrt(gradient.numel())
        factor = _SHORTER * self.radius * 2.0**bits / norm
        return (below_one * factor).trunc_().to(torch.float32)


def _squares(whole: Tensor) -> Tensor:
    """(U,) float64 sums of squares of whole numbers, exact up to 2^53, in whatever order they are added."""
    rows = [row.to(torch.float64) for row in whole]
    return torch.stack([torch.dot(row, row) for row in rows]) if rows else whole.new_zeros(0, dtype=torch.float64)


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

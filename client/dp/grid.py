"""Clipped gradients and their sums as integers.

Guarantee: a unit adds a vector of integers to the sum whose L2 norm, times the grid's step, is at most the clipping
norm C. This holds exactly, for every gradient that float32 can hold, NaN and infinity among them, and for any number of
units in any order. The vector is a function of the unit's own gradient, bit for bit: every number here is one exact or
correctly rounded operation on that gradient, except for two kinds of sums. Sums of squares of integers below 2^53 are
exact in float64. The sum of a gradient's squares depends on the order of its terms in the last bits. It is rounded
up to 21 binary digits, and if its error bound leaves that digit open, it is computed again exactly.

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
_CUT = 32  # of the 52 binary digits of a sum of squares
_CACHED = 1 << 16  # numbers for which the processor's cache has room
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

    def clip(self, gradients: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Clip the gradients of whole units and put them on the grid.

        A gradient with NaN or infinity becomes zero: it has no direction to keep.

        Args:
            gradients: (U, P) float32.
            out: (U, P) float32 for the result. `gradients` itself if they are not needed afterwards.

        Returns:
            (U, P) float32 that holds whole numbers up to 2^20, and (U,) whether the gradient was made shorter.
        """
        whole = torch.empty_like(gradients) if out is None else out
        if not len(gradients):
            return whole, torch.zeros(0, dtype=torch.bool, device=gradients.device)
        space = torch.empty(_CACHED, dtype=torch.float64, device=gradients.device)
        factors, longer = self._factors(gradients, space)
        squares = []
        for part, target, factor in zip(
            _cut(gradients), _cut(whole), torch.split(factors, _rows_at_once(gradients)), strict=True
        ):
            torch.mul(part, factor[:, None], out=target).trunc_()
            squares.append(_squares(target, space))
        within = torch.cat(squares) <= self.radius**2
        if not bool(within.all()):
            # NaN and infinity. The theorem says nothing else. If it were wrong, the bound would hold all the same.
            whole[~within] = 0
        return whole, longer | ~within

    def _factors(self, gradients: Tensor, space: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factor of each of (U, P) gradients before truncation, (U,) float32, and whether it shortens."""
        upper, lower = _bounds(gradients, _squares(gradients, space))
        # Truncation takes less than one step from each number, hence less than sqrt(P) from the norm.
        longer = lower > (self.step * (self.radius + math.sqrt(gradients.shape[1]))) ** 2
        near = torch.nonzero(~longer & (upper > (self.step * self.radius) ** 2)).flatten()
        if len(near):
            whole = torch.mul(gradients[near], 1 / self.step).trunc_()
            longer[near] = _squares(whole, space) > self.radius**2
        factors = torch.where(longer, _SHORTER * self.radius / upper.sqrt(), 1 / self.step)
        return factors.to(torch.float32), longer


def _bounds(gradients: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on the sum of squares of each gradient, two neighbours of the numbers with 21 binary digits, (U,) float64.

    They follow from the gradient alone.

    Args:
        gradients: (U, P) float32.
        squares: (U,) float64, the sums of squares, computed in any order. NaN or infinity if a gradient has them.
    """
    # Each square passes at most P roundings, one product and P - 1 sums. Twice as much, for the roundings here.
    error = (gradients.shape[1] + 4) * 2.0**-52
    cells, above = ((squares * factor).view(torch.int64) >> _CUT for factor in (1 - error, 1 + error))
    for row in torch.nonzero((cells != above) & squares.isfinite()).flatten().tolist():
        exact = math.fsum(value * value for value in gradients[row].tolist())
        cells[row] = torch.tensor(exact, dtype=torch.float64).view(torch.int64) >> _CUT
    return (cells + 1 << _CUT).view(torch.float64), (cells << _CUT).view(torch.float64)


def _rows_at_once(gradients: Tensor) -> int:
    return max(1, _CACHED // max(1, gradients.shape[1]))


def _cut(gradients: Tensor) -> tuple[Tensor, ...]:
    """Some of (U, P) gradients at a time, so that their numbers stay in the processor's cache."""
    return torch.split(gradients, _rows_at_once(gradients))


def _squares(values: Tensor, space: Tensor) -> Tensor:
    """(U,) float64, the sum of squares of each row of (U, P) values. Of whole numbers exact up to 2^53 in any order.

    Overwrites `space`, (`_CACHED`,) float64.
    """
    sums = []
    for rows in _cut(values):
        for part in torch.split(rows, _CACHED, dim=1):
            wide = space[: part.numel()].view(part.shape)
            wide.copy_(part)
            sums.append(torch.dot(wide[0], wide[0])[None] if len(wide) == 1 else wide.square_().sum(1))
    if values.shape[1] > _CACHED:  # each row in several parts
        return torch.stack(sums).view(len(values), -1).sum(1)
    return torch.cat(sums)


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

    def add_total(self, total: Tensor) -> None:
        """Add a sum that was taken elsewhere, (P,) int64."""
        self._total += total.to(self._total.device)

    def value(self) -> Tensor:
        """A copy of the sum so far, (P,) int64."""
        return self._total.clone()

    def take(self) -> Tensor:
        """Return the sum, (P,) int64 on the CPU, and begin again at zero."""
        total = self._total.cpu().clone()
        self._total.zero_()
        return total

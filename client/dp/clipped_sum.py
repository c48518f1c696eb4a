"""The sum of clipped gradients of whole units, over the physical batches of one logical batch.

A model that runs in a thread of its own has its own sum. Sums are integers, so they can be added in any order.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from client.dp.grid import Grid, IntegerSum

__all__ = ["ClippedSum"]


class ClippedSum:
    """Clips the gradients of units and adds them up.

    Args:
        params: the trained parameters. Their order is that of all vectors here.
        clipping_norm: bound on the L2 norm of one unit's gradient.
        unit: a record, or a customer, whose records' gradients are added up before they are clipped.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], clipping_norm: float, unit: Literal["record", "customer"]
    ) -> None:
        self.params = list(params)
        self.size = sum(p.numel() for p in self.params)
        self.grid = Grid(clipping_norm)
        self.sum = IntegerSum(self.size, self.params[0].device)
        self._unit = unit
        self._space: Tensor | None = None
        self._open: dict[int, Tensor] = {}
        self._closed: set[int] = set()
        self._units = 0
        self._shortened = 0

    def accumulate(self, losses: Tensor, examples: int | None = None, owners: Tensor | None = None) -> None:
        """Backward through `losses` and add the clipped gradients of their units to the sum.

        Args:
            losses: (B,), of each example by itself.
            examples: the number of examples; the losses behind them belong to dummies. By default there are none.
            owners: the customer of each example, if the unit is the customer. A customer's gradients are added up over
                all physical batches until `close_units`.
        """
        self.add_samples(self.samples(losses, examples), owners)

    def samples(self, losses: Tensor, examples: int | None = None) -> Tensor:
        """Backward through `losses` and return the gradients of the examples, in memory that the next call overwrites.

        Args:
            losses: See `accumulate`.
            examples: See `accumulate`.

        Returns:
            (n, P) float32.
        """
        losses.sum().backward()  # type: ignore[no-untyped-call]
        if self._space is None or len(self._space) < len(losses):
            self._space = torch.empty(len(losses), self.size, device=losses.device)
        return self.take_samples(self._space[: len(losses)])[:examples]

    def take_samples(self, out: Tensor | None = None) -> Tensor:
        """(B, P) gradients of the last backward pass's examples, float32, each of which is used once.

        Args:
            out: (B, P) float32, to be overwritten with them.
        """
        parts = []
        for parameter in self.params:
            sample = getattr(parameter, "grad_sample", None)
            if not isinstance(sample, Tensor):
                raise RuntimeError(
                    "a trained parameter has no gradient per example: it is unused, or not in training mode"
                )
            parts.append(sample.flatten(1).to(torch.float32))
            parameter.grad_sample = None  # type: ignore[attr-defined]
            parameter.grad = None
        return torch.cat(parts, dim=1) if out is None else torch.cat(parts, dim=1, out=out)

    def add_samples(self, samples: Tensor, owners: Tensor | None = None) -> None:
        """Clip the gradients of units and add them to the sum.

        Args:
            samples: (n, P) float32 gradients of examples, to be overwritten.
            owners: See `accumulate`.
        """
        if (owners is None) is (self._unit == "customer"):
            raise RuntimeError("owners of the examples are needed if the unit is the customer, and only then")
        if owners is None:
            self._clip_and_add(samples, samples)
            return
        for owner, sample in zip(owners.tolist(), samples, strict=True):
            if owner in self._closed:
                raise RuntimeError("a customer was closed before its last example: it would be clipped twice")
            # One after another, so that a customer's sum depends on the order of its own examples alone.
            self._open[owner] = self._open[owner] + sample if owner in self._open else sample.clone()

    def close_units(self) -> None:
        """Clip the sums of the customers seen since the last call: none of their examples may follow in this batch."""
        for total in self._open.values():
            self.add_units(total[None])
        self._closed.update(self._open)
        self._open = {}

    def add_units(self, gradients: Tensor) -> None:
        """Clip the gradients of whole units, (U, P) float32, and add them to the sum."""
        self._clip_and_add(gradients, None)

    def _clip_and_add(self, gradients: Tensor, space: Tensor | None) -> None:
        whole, shortened = self.grid.clip(gradients, space)
        self.sum.add(whole)
        self._units += len(whole)
        self._shortened += int(shortened.sum())

    def absorb(self, other: "ClippedSum") -> None:
        """Add all that `other` has summed to this sum, and let `other` begin again at zero."""
        other.close_units()
        self.sum.add_total(other.sum.take())
        self._units += other._units
        self._shortened += other._shortened
        other._units = other._shortened = 0

    def take_clip_fraction(self) -> float:
        """Share of the units since the last call whose gradient was made shorter. Private: it must not leave."""
        fraction = self._shortened / max(1, self._units)
        self._units = self._shortened = 0
        return fraction

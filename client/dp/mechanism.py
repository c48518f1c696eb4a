"""DP-SGD: per-example gradients by Opacus, clipped by unit and summed as integers, noise from the operating system.

Guarantee: with Poisson batches of probability q, one call of `PrivateOptimizer.step` per logical batch is the
Poisson-subsampled Gaussian mechanism at `noise_multiplier`, for adding or removing one unit: a record, or a customer
with all its records, whose gradients are summed before they are clipped. Clipping comes before units are summed, the
noised sum is divided by a number that does not depend on the data, and an empty batch takes its step too.
Abadi et al. 2016, arXiv 1607.00133. Sums and noise are integers, so rounding takes nothing from the guarantee: see
`client.dp.grid` for the bound and `client.dp.noise` for the noise. Not covered: timing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from client.dp.clipped_sum import ClippedSum
from client.dp.grid import Grid
from client.dp.noise import NoiseSource
from client.dp.per_example import gradient_samples, has_rule
from common.errors import ConfigurationError, ModelError

__all__ = ["DpSettings", "PrivateOptimizer", "make_private"]

_MOST_NOISE = 1e6


@dataclass(frozen=True)
class DpSettings:
    """The mechanism of one training, as the accountant knows it, and the divisor of its sums.

    Attributes:
        noise_multiplier: standard deviation of the noise over `clipping_norm`.
        clipping_norm: bound on the L2 norm of one unit's gradient, over all trained parameters together.
        sampling_probability: chance of each unit to be in a step's batch.
        steps: noisy steps, empty ones included.
        expected_batch_size: divisor of the noised sum of units: `sampling_probability` times a number of units that was
            decided, not counted. Divided by the true number, the noise of an update would show it in its scale.
        unit: the thing that is added or removed: a record, or a customer with all its records.

    Raises:
        ConfigurationError: a value with which the mechanism is not defined.
    """

    noise_multiplier: float
    clipping_norm: float
    sampling_probability: float
    steps: int
    expected_batch_size: float
    unit: Literal["record", "customer"] = "record"

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier <= _MOST_NOISE:
            raise ConfigurationError(
                f"privacy: noise_multiplier is {self.noise_multiplier}: use a number from 0 to {_MOST_NOISE:g}"
            )
        Grid(self.clipping_norm)
        if not 0 < self.sampling_probability <= 1:
            raise ConfigurationError(
                f"privacy: sampling_probability is {self.sampling_probability}: use a number above 0, at most 1"
            )
        if self.steps < 1:
            raise ConfigurationError(f"privacy: steps is {self.steps}: use a whole number, 1 or more")
        if not 1e-30 <= self.expected_batch_size <= 1e30:
            raise ConfigurationError(
                f"privacy: expected_batch_size is {self.expected_batch_size}: use a number from 1e-30 to 1e30"
            )
        if self.unit not in ("record", "customer"):
            raise ConfigurationError("privacy: unit is unknown: use record or customer")


class PrivateOptimizer(ClippedSum):
    """A torch optimiser whose gradients are noised sums of clipped gradients of whole units.

    One logical batch is `accumulate` for each of its physical batches, none if it is empty, `close_units` once its
    customers are complete, and then one `step`.

    Args:
        optimizer: holds every trained parameter. Its order of parameters is that of all vectors here.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: DpSettings, noise: NoiseSource) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        super().__init__(params, settings.clipping_norm, settings.unit)
        self._optimizer = optimizer
        self._settings = settings
        self._noise = noise

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in steps of the grid."""
        return self._settings.noise_multiplier * self._settings.clipping_norm / self.grid.step

    def step(self) -> None:
        """Add noise to the sum, divide it, and take a step: with a sum of zero after an empty batch."""
        self._set_gradients(self.take_noised_sum())
        self._optimizer.step()
        for parameter in self.params:
            parameter.grad = None

    def take_noised_sum(self, largest: int | None = None) -> Tensor:
        """Return the sum with noise, (P,) int64 in steps of the grid, and begin the next batch.

        Args:
            largest: Each number of the sum is held to it before the noise, which makes no change by one unit larger.
        """
        if any(getattr(p, "grad_sample", None) is not None for p in self.params):
            raise RuntimeError("gradients that were not clipped: call accumulate for each physical batch, then step")
        self.close_units()
        self._closed.clear()
        total = self.sum.take()
        if largest is not None:
            total.clamp_(-largest, largest)
        return total + self._integer_noise()

    def _integer_noise(self) -> Tensor:
        """(P,) int64 rounded normal noise of standard deviation sigma C, in steps of the grid."""
        return torch.from_numpy(self._noise.rounded_normal(self.size, self.deviation))

    def _set_gradients(self, noised: Tensor) -> None:
        """Divide (P,) noised integers by the expected batch size. The drawn size is private and never enters."""
        values = noised.to(torch.float64) * (self.grid.step / self._settings.expected_batch_size)
        for parameter, chunk in zip(self.params, torch.split(values, [p.numel() for p in self.params]), strict=True):
            parameter.grad = chunk.view(parameter.shape).to(parameter.device, parameter.dtype)


@contextmanager
def make_private(
    module: nn.Module, optimizer: torch.optim.Optimizer, settings: DpSettings, noise: NoiseSource
) -> Iterator[PrivateOptimizer]:
    """Give every trainable parameter of `module` per-example gradients while the block runs; then leave no trace.

    Losses must be summed over examples, not averaged. Only modules that own trainable parameters need be in training
    mode. Move the module to its device and dtype before, not inside.

    Raises:
        ModelError: a trainable parameter has no per-example rule in Opacus, or `optimizer` does not hold it.
    """
    _refuse_unruled(module, optimizer)
    with gradient_samples(module):
        yield PrivateOptimizer(optimizer, settings, noise)


def _refuse_unruled(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for path, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            without_bias = isinstance(part, nn.LayerNorm) and part.bias is None  # Opacus' rule reads its bias
            if not has_rule(part) or without_bias:
                kind = f"{type(part).__name__} without a bias" if without_bias else type(part).__name__
                raise ModelError(
                    f"trainable parameter {path}.{name}: {kind} has no per-example gradient rule: "
                    "freeze it, or train without privacy"
                )
            if id(parameter) not in held:
                raise ModelError(f"trainable parameter {path}.{name}: not held by the optimiser: freeze it")

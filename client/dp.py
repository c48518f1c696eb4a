"""DP-SGD: per-example gradients and clipping by Opacus, noise from the operating system.

Guarantee: with Poisson batches of probability q, one call of `PrivateOptimizer.step` per logical batch is the
Poisson-subsampled Gaussian mechanism at `noise_multiplier`, for adding or removing one record. Clipping comes before
accumulation, the noised sum is divided by the expected batch size, and an empty batch takes its step too.
Abadi et al. 2016, arXiv 1607.00133. Not covered: rounding of floating-point noise (Mironov 2012), timing.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client.noise import NoiseSource
from common.errors import ConfigurationError, ModelError

__all__ = ["DpSettings", "PrivateOptimizer", "make_private", "verify_per_example_gradients"]

_OPACUS_PARAMETER_STATE = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample")
_OPACUS_MODULE_STATE = ("activations", "max_batch_len", "autograd_grad_sample_hooks")
_PROBE_TOLERANCE = 1e-3  # float32 rounding is near 1e-6; the faults looked for are of 5 % and more


@dataclass(frozen=True)
class DpSettings:
    """What the accountant is told about one training.

    noise_multiplier: standard deviation of the noise over `clipping_norm`.
    clipping_norm: bound on the L2 norm of one example's gradient, over all trained parameters together.
    sampling_probability: chance of each record to be in a step's batch.
    steps: noisy steps, empty ones included.

    Raises:
        ConfigurationError: a value with which the mechanism is not defined.
    """

    noise_multiplier: float
    clipping_norm: float
    sampling_probability: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise ConfigurationError(f"privacy: noise_multiplier is {self.noise_multiplier}: use a number, 0 or more")
        if not 0 < self.clipping_norm < math.inf:
            raise ConfigurationError(f"privacy: clipping_norm is {self.clipping_norm}: use a number above 0")
        if not 0 < self.sampling_probability <= 1:
            raise ConfigurationError(
                f"privacy: sampling_probability is {self.sampling_probability}: use a number above 0, at most 1"
            )
        if self.steps < 1:
            raise ConfigurationError(f"privacy: steps is {self.steps}: use a whole number, 1 or more")


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser with our noise, division by the expected batch alone, and steps without any example.

    One logical batch is `accumulate` for each of its physical batches, none if it is empty, and then one `step`.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: DpSettings, expected_batch_size: float, noise: NoiseSource
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.clipping_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        self._noise = noise
        self._examples = 0
        self._clipped = 0

    def accumulate(self, losses: Tensor) -> None:
        """Backward through the examples' `losses`, shape (B,), and add their clipped gradients to the batch's sum."""
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.clip_and_accumulate()

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Noise and divide the sum of what was accumulated: of nothing at all, in an empty batch."""
        if closure is not None or any(p.grad_sample is not None for p in self.params):
            raise RuntimeError("gradients that were not clipped: call accumulate for each physical batch, then step")
        self.add_noise()
        self.scale_grad()
        return True

    def take_clip_fraction(self) -> float:
        """Share of the examples since the last call whose gradient was clipped. Private: it must not leave."""
        fraction = self._clipped / max(1, self._examples)
        self._examples = self._clipped = 0
        return fraction

    def clip_and_accumulate(self) -> None:
        """Add each example's gradient, scaled to L2 norm at most C over all parameters, to `p.summed_grad`.

        A gradient that overflows contributes nothing: it has no direction to keep, and NaN would escape the bound.
        """
        samples = [sample.flatten(1).to(torch.float32) for sample in self.grad_samples]
        norms = torch.stack([torch.linalg.vector_norm(sample, dim=1) for sample in samples]).norm(dim=0)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            samples = [torch.where(finite[:, None], sample, 0.0) for sample in samples]
            norms = torch.where(finite, norms, 0.0)
        factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        for parameter, sample in zip(self.params, samples, strict=True):
            total = torch.mv(sample.T, factors).view_as(parameter)
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total
            parameter.grad_sample = None  # used once; a second step without a backward pass is then an error
        self._examples += len(norms)
        self._clipped += int((norms > self.max_grad_norm).sum()) + int((~finite).sum())

    def add_noise(self) -> None:
        """Set `p.grad` to the clipped sum plus normal noise of standard deviation sigma C, added in float64."""
        scale = self.noise_multiplier * self.max_grad_norm
        values = torch.from_numpy(self._noise.normal(sum(p.numel() for p in self.params)) * scale)
        chunks = torch.split(values, [p.numel() for p in self.params])
        for parameter, chunk in zip(self.params, chunks, strict=True):
            total = chunk.view(parameter.shape)
            if parameter.summed_grad is not None:
                total = total + parameter.summed_grad.to("cpu", torch.float64)
            parameter.grad = total.to(parameter.device, parameter.dtype)
            parameter.summed_grad = None

    def scale_grad(self) -> None:
        """Divide by the expected batch size; the drawn size is private and never enters."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


@contextmanager
def make_private(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: DpSettings,
    expected_batch_size: float,
    noise: NoiseSource,
) -> Iterator[PrivateOptimizer]:
    """Give every trainable parameter of `module` per-example gradients while the block runs; then leave no trace.

    Losses must be summed over examples, not averaged. Only modules that own trainable parameters need be in training
    mode. Move the module to its device and dtype before, not inside.

    Raises:
        ModelError: a trainable parameter has no per-example rule in Opacus, or `optimizer` does not hold it.
    """
    _refuse_unruled(module, optimizer)
    with warnings.catch_warnings():
        # A LoRA B above a frozen A has no input that needs a gradient; Opacus reads the gradient of its output.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        hooks: GradSampleModule | None = None
        try:
            hooks = GradSampleModule(module, loss_reduction="sum")
            yield PrivateOptimizer(optimizer, settings, expected_batch_size, noise)
        except NotImplementedError as error:
            raise ModelError(f"base model: {type(module).__name__} has a layer that Opacus cannot train") from error
        finally:
            if hooks is not None:
                hooks.remove_hooks()
            _forget(module)


def verify_per_example_gradients(module: nn.Module, losses: Callable[[slice], Tensor]) -> None:
    """Compare Opacus' gradient of each of two probe examples with autograd's gradient of that example alone.

    Call inside `make_private`. Catches what would otherwise clip the wrong thing in silence: a parameter that the
    forward pass does not use or uses over the batch, examples that depend on each other, a wrong checkpointing mode.
    Parameters hold small random values meanwhile, since at the usual start (B = 0, head = 0) most gradients vanish.

    Args:
        losses: the per-example losses, shape (2,) for `slice(0, 2)`, of two examples that hold no private data.

    Raises:
        ModelError: naming the first parameter whose gradient is missing or differs by more than 1e-3 in norm.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    kept = {name: p.detach().clone() for name, p in trained.items()}
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in trained.values():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        _backward(module, losses, slice(0, 2))
        together = {name: getattr(p, "grad_sample", None) for name, p in trained.items()}
        for name, sample in together.items():
            if not isinstance(sample, Tensor) or sample.shape != (2, *trained[name].shape):
                raise ModelError(
                    f"trainable parameter {name}: the forward pass gives it no gradient per example: freeze it, "
                    "or choose another adapter"
                )
        for row in range(2):
            _backward(module, losses, slice(row, row + 1))
            for name, parameter in trained.items():
                _compare(name, together[name], row, parameter.grad)
    finally:
        for name, parameter in trained.items():
            parameter.data.copy_(kept[name])
            parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]


def _backward(module: nn.Module, losses: Callable[[slice], Tensor], rows: slice) -> None:
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]
    losses(rows).sum().backward()  # type: ignore[no-untyped-call]


def _compare(name: str, together: Tensor | None, row: int, alone: Tensor | None) -> None:
    if together is None or alone is None:
        raise ModelError(f"trainable parameter {name}: the forward pass does not use it: freeze it")
    difference = (together[row] - alone).norm()
    if not bool(difference <= _PROBE_TOLERANCE * alone.norm() + 1e-7):
        raise ModelError(
            f"trainable parameter {name}: its gradient for one example depends on the rest of the batch, or is wrong: "
            "turn off dropout and gradient checkpointing, or choose another adapter"
        )


def _refuse_unruled(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for path, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if type(part) not in GradSampleModule.GRAD_SAMPLERS:
                raise ModelError(
                    f"trainable parameter {path}.{name}: {type(part).__name__} has no per-example gradient rule: "
                    "freeze it, or train without privacy"
                )
            if id(parameter) not in held:
                raise ModelError(f"trainable parameter {path}.{name}: not held by the optimiser: freeze it")


def _forget(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
        for name in _OPACUS_PARAMETER_STATE:
            parameter.__dict__.pop(name, None)
    for part in module.modules():
        for name in _OPACUS_MODULE_STATE:
            part.__dict__.pop(name, None)

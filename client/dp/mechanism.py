"""DP-SGD: per-example gradients by Opacus, clipped by unit, noise from the operating system.

Guarantee: with Poisson batches of probability q, one call of `PrivateOptimizer.step` per logical batch is the
Poisson-subsampled Gaussian mechanism at `noise_multiplier`, for adding or removing one unit: a record, or a customer
with all its records, whose gradients are summed before they are clipped. Clipping comes before units are summed, the
noised sum is divided by a number that does not depend on the data, and an empty batch takes its step too.
Abadi et al. 2016, arXiv 1607.00133. Not covered: rounding of floating-point noise (Mironov 2012), timing.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client.dp.noise import NoiseSource
from common.errors import ConfigurationError, ModelError

__all__ = ["DpSettings", "PrivateOptimizer", "clipping_factors", "example_gradients", "make_private"]

_OPACUS_PARAMETER_STATE = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample")
_OPACUS_MODULE_STATE = ("activations", "max_batch_len", "autograd_grad_sample_hooks")
_AUTOMATIC_OFFSET = 0.01  # gamma of AUTO-S, the paper's own value


@dataclass(frozen=True)
class DpSettings:
    """What the accountant is told about one training, and what its sums are divided by.

    noise_multiplier: standard deviation of the noise over `clipping_norm`.
    clipping_norm: bound on the L2 norm of one unit's gradient, over all trained parameters together.
    sampling_probability: chance of each unit to be in a step's batch.
    steps: noisy steps, empty ones included.
    expected_batch_size: what the noised sum of units is divided by: `sampling_probability` times a number of units
        that was decided, not counted. Divided by the true number, the noise of an update would show it in its scale.
    clipping: see `clipping_factors`.
    unit: what is added or removed: a record, or a customer with all its records.

    Raises:
        ConfigurationError: a value with which the mechanism is not defined.
    """

    noise_multiplier: float
    clipping_norm: float
    sampling_probability: float
    steps: int
    expected_batch_size: float
    clipping: Literal["flat", "automatic"] = "flat"
    unit: Literal["record", "customer"] = "record"

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
        if not 0 < self.expected_batch_size < math.inf:
            raise ConfigurationError(
                f"privacy: expected_batch_size is {self.expected_batch_size}: use a number above 0"
            )
        for name, known in (("clipping", ("flat", "automatic")), ("unit", ("record", "customer"))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"privacy: {name} is unknown: use {' or '.join(known)}")


def clipping_factors(norms: Tensor, settings: DpSettings) -> Tensor:
    """What each gradient of L2 norm `norms`, (U,), is multiplied by, so that its norm is at most C.

    flat: min(1, C / norm). automatic: C / (norm + 0.01), AUTO-S of Bu et al. 2022, arXiv 2206.07136: every gradient
    comes out just shorter than C, so the bound is the same: norm * C / (norm + 0.01) < C. Each factor depends on its
    own gradient alone, so one unit more or less moves the sum by at most C under either.
    """
    if settings.clipping == "automatic":
        return settings.clipping_norm / (norms + _AUTOMATIC_OFFSET)
    return (settings.clipping_norm / (norms + 1e-6)).clamp(max=1.0)


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser with our clipping and noise, a divisor that is public, and steps without any example.

    One logical batch is `accumulate` for each of its physical batches, none if it is empty, and then one `step`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: DpSettings, noise: NoiseSource) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.clipping_norm,
            expected_batch_size=settings.expected_batch_size,
            loss_reduction="mean",
        )
        self._settings = settings
        self._noise = noise
        self._complete: set[int] = set()
        self._open: tuple[int, list[Tensor]] | None = None
        self._units = 0
        self._shortened = 0

    def accumulate(self, losses: Tensor, owners: Tensor | None = None) -> None:
        """Backward through the examples' `losses`, (B,), and add their units' clipped gradients to the batch's sum.

        Args:
            owners: (B,) whose each example is, where the unit is the customer. A customer's examples stand one after
                another, and may go on in the next physical batch.
        """
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.clip_and_accumulate(owners)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Noise and divide the sum of what was accumulated: of nothing at all, in an empty batch."""
        if closure is not None or any(p.grad_sample is not None for p in self.params):
            raise RuntimeError("gradients that were not clipped: call accumulate for each physical batch, then step")
        if self._open is not None:
            self._add_clipped([total[None] for total in self._open[1]])
        self._open = None
        self._complete.clear()
        self.add_noise()
        self.scale_grad()
        return True

    def take_clip_fraction(self) -> float:
        """Share of the units since the last call whose gradient was made shorter. Private: it must not leave."""
        fraction = self._shortened / max(1, self._units)
        self._units = self._shortened = 0
        return fraction

    def clip_and_accumulate(self, owners: Tensor | None = None) -> None:
        """Add the gradients of the examples' units, scaled to L2 norm at most C over all parameters, to the sum."""
        samples = [sample.flatten(1).to(torch.float32) for sample in self.grad_samples]
        for parameter in self.params:
            parameter.grad_sample = None  # used once; a second step without a backward pass is then an error
        if (owners is None) is (self._settings.unit == "customer"):
            raise RuntimeError("owners of the examples are needed where the unit is the customer, and there alone")
        self._add_clipped(samples if owners is None else self._by_owner(samples, owners))

    def _by_owner(self, samples: list[Tensor], owners: Tensor) -> list[Tensor]:
        """Gradients of the owners whose last example has been seen, (U, n) each; the last owner's may go on."""
        labels, index = torch.unique_consecutive(owners.to(samples[0].device), return_inverse=True)
        names = labels.tolist()
        if len(set(names)) < len(names) or not self._complete.isdisjoint(names):
            raise RuntimeError("a customer's examples are apart: it would be clipped twice")
        sums = [s.new_zeros(len(names), s.shape[1]).index_add_(0, index, s) for s in samples]
        if self._open is not None:
            owner, held = self._open
            if owner == names[0]:
                for total, part in zip(sums, held, strict=True):
                    total[0] += part
            else:
                names = [owner, *names]
                sums = [torch.cat([part[None], total]) for total, part in zip(sums, held, strict=True)]
        self._complete.update(names[:-1])
        self._open = names[-1], [total[-1].clone() for total in sums]
        return [total[:-1] for total in sums]

    def _add_clipped(self, gradients: list[Tensor]) -> None:
        """Clip gradients of whole units, (U, n) for each parameter, and add them to `p.summed_grad`.

        A gradient that overflows contributes nothing: it has no direction to keep, and NaN would escape the bound.
        """
        norms = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in gradients]).norm(dim=0)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            gradients = [torch.where(finite[:, None], gradient, 0.0) for gradient in gradients]
            norms = torch.where(finite, norms, 0.0)
        factors = clipping_factors(norms, self._settings)
        for parameter, gradient in zip(self.params, gradients, strict=True):
            total = torch.mv(gradient.T, factors).view_as(parameter)
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total
        self._units += len(norms)
        self._shortened += int((norms * factors < norms).sum()) + int((~finite).sum())

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
        """Divide by the expected batch size; the drawn size and the number of units are private and never enter."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


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
    with _gradient_samples(module):
        yield PrivateOptimizer(optimizer, settings, noise)


def example_gradients(
    module: nn.Module, parameters: Sequence[nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> Tensor:
    """The unclipped gradient of each example over `parameters`, (N, P), flat and in their order, by the same rules.

    What an attacker who knows the model computes of examples that it suspects; no training uses it.

    Args:
        losses: for each physical batch, how to compute its examples' losses, (B,).
    """
    rows: list[Tensor] = []
    with _gradient_samples(module):
        for each in losses:
            each().sum().backward()  # type: ignore[no-untyped-call]
            samples = [parameter.grad_sample for parameter in parameters]  # type: ignore[attr-defined]
            rows.append(torch.cat([sample.flatten(1).to("cpu", torch.float32) for sample in samples], dim=1))
            for parameter in parameters:
                parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]
    return torch.cat(rows)


@contextmanager
def _gradient_samples(module: nn.Module) -> Iterator[None]:
    """While the block runs, a backward pass leaves each example's gradient in `grad_sample`; then no trace is left."""
    with warnings.catch_warnings():
        # A LoRA B above a frozen A has no input that needs a gradient; Opacus reads the gradient of its output.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        hooks: GradSampleModule | None = None
        try:
            hooks = GradSampleModule(module, loss_reduction="sum")
            yield
        except NotImplementedError as error:
            raise ModelError(f"base model: {type(module).__name__} has a layer that Opacus cannot train") from error
        finally:
            if hooks is not None:
                hooks.remove_hooks()
            _forget(module)


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

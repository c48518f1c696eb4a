"""Each example's own gradient of the trained parameters, by Opacus' rules for each kind of layer."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import Tensor, nn

from common.errors import ModelError

__all__ = ["gradient_samples", "has_rule"]

_PARAMETER_STATE = ("grad_sample", "_forward_counter", "_current_grad_sample")
_MODULE_STATE = ("activations", "max_batch_len", "autograd_grad_sample_hooks")


class _Samples(GradSampleModule):  # type: ignore[misc]
    """Keeps the tensors that the rules return, where Opacus copies them into tensors of zeros."""

    def capture_backprops_hook(
        self, module: nn.Module, _forward_input: Any, forward_output: Any, loss_reduction: str, batch_first: bool
    ) -> None:
        """Take the gradients of one use of `module` in a backward pass, and add them to those of its other uses."""
        if not self.hooks_enabled:
            return
        activations, backprops = self.rearrange_grad_samples(
            module=module,
            backprops=forward_output[0].detach(),
            loss_reduction=loss_reduction,
            batch_first=batch_first,
        )
        found: dict[nn.Parameter, Tensor] = self.GRAD_SAMPLERS[type(module)](module, activations, backprops)
        for parameter, sample in found.items():
            before = getattr(parameter, "_current_grad_sample", None)
            parameter._current_grad_sample = sample if before is None else before + sample  # type: ignore[attr-defined]
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter._forward_counter -= 1  # type: ignore[attr-defined]
                if parameter._forward_counter == 0:  # type: ignore[attr-defined]
                    promote_current_grad_sample(parameter)
        if not module.activations:
            del module.max_batch_len


def has_rule(module: nn.Module) -> bool:
    """Whether Opacus has a rule for the parameters of `module`."""
    return type(module) in GradSampleModule.GRAD_SAMPLERS


@contextmanager
def gradient_samples(module: nn.Module) -> Iterator[None]:
    """While the block runs, a backward pass leaves each example's gradient in `grad_sample`; then no trace is left."""
    with warnings.catch_warnings():
        # A LoRA B above a frozen A has no input that needs a gradient; Opacus reads the gradient of its output.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        hooks: _Samples | None = None
        try:
            hooks = _Samples(module, loss_reduction="sum")
            yield
        except NotImplementedError as error:
            raise ModelError(f"base model: {type(module).__name__} has a layer that Opacus cannot train") from error
        finally:
            if hooks is not None:
                hooks.remove_hooks()
            _forget(module)


def _forget(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
        for name in _PARAMETER_STATE:
            parameter.__dict__.pop(name, None)
    for part in module.modules():
        for name in _MODULE_STATE:
            part.__dict__.pop(name, None)

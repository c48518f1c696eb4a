"""Does every trained parameter get the gradient of each example alone? Asked on public sentences, before training.

Per-example gradients that are wrong are clipped just as willingly as right ones, and nothing else would show it.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from common.adapters.adapted_model import AdaptedModel
from common.errors import ModelError
from common.tokenization.batches import IGNORED, Batch

__all__ = ["verify_model", "verify_per_example_gradients"]

_TEXTS = ("net sales of the bank rose in the third quarter", "profit fell")

_TOLERANCE = 1e-3  # float32 rounding is near 1e-6; the faults looked for are of 5 % and more


def verify_model(model: AdaptedModel, per_token: bool, losses_of: Callable[[AdaptedModel, Batch], Tensor]) -> None:
    """Probe `model` on two public sentences, from where its training starts too; `losses_of` a batch are (B,).

    Call inside `client.dp.mechanism.make_private`; the model is in training mode afterwards, without dropout.

    Raises:
        ModelError: see `verify_per_example_gradients`; it also names the modules that can be trained.
    """
    texts = model.encode(_TEXTS)
    if not model.base.is_exact:
        # Such a model is trained without padding, and rounding would hide what is looked for.
        texts = replace(texts, input_ids=tuple(ids[: min(texts.lengths)] for ids in texts.input_ids))

    def losses(rows: slice) -> Tensor:
        batch = texts.batch(range(2)[rows], model.base.device)  # padded, but for one that is alone
        first = torch.zeros_like(batch.input_ids[:, 0])
        labels = torch.where(batch.attention_mask.bool(), 0, IGNORED) if per_token else first
        model.eval_mode()
        hidden = model.frozen_output(batch)
        model.train_mode(dropout=False)
        return losses_of(model, replace(batch, labels=labels, hidden=hidden))

    faults = _faults(model.module, losses)
    if not faults:
        return
    name, reason = next(iter(faults.items()))
    failing = {_module(name) for name in faults}
    trained = [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]
    sound = dict.fromkeys(_module(name) for name in trained if ".lora_" in name)
    sound = dict.fromkeys(module for module in sound if module not in failing)
    advice = f"train these modules alone (target_modules): {', '.join(sound)}" if sound else "choose another base model"
    raise ModelError(f"trainable parameter {name}: {reason}: {advice}")


def _module(parameter: str) -> str:
    """The last part of the name of the module that a LoRA factor adapts, as `target_modules` takes it."""
    return parameter.partition(".lora_")[0].rpartition(".")[2]


def verify_per_example_gradients(module: nn.Module, losses: Callable[[slice], Tensor]) -> None:
    """Compare Opacus' gradient of each of two probe examples with autograd's gradient of that example alone.

    Call inside `client.dp.mechanism.make_private`. Catches what would otherwise clip the wrong thing in silence: a
    parameter that the forward pass does not use or uses over the batch, examples that depend on each other or on
    their padding, a wrong checkpointing mode. Parameters hold small random values meanwhile, since at the usual
    start (B = 0, head = 0)
    most are 0.

    Args:
        losses: the per-example losses, shape (2,) for `slice(0, 2)`, of two examples that hold no private data.

    Raises:
        ModelError: naming the first parameter whose gradient is missing or differs by more than 1e-3 in norm.
    """
    for name, reason in _faults(module, losses).items():
        raise ModelError(f"trainable parameter {name}: {reason}: freeze it, or choose another adapter")


def _faults(module: nn.Module, losses: Callable[[slice], Tensor]) -> dict[str, str]:
    """The trained parameters whose gradient of one example is missing or wrong, each with the reason."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    kept = {name: p.detach().clone() for name, p in trained.items()}
    generator = torch.Generator().manual_seed(0)
    faults: dict[str, str] = {}
    try:
        for parameter in trained.values():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        _backward(module, losses, slice(0, 2))
        together = {name: getattr(p, "grad_sample", None) for name, p in trained.items()}
        for name, sample in together.items():
            if not isinstance(sample, Tensor) or sample.shape != (2, *trained[name].shape):
                faults[name] = "the forward pass gives it no gradient per example"
        for row in range(2):
            _backward(module, losses, slice(row, row + 1))
            for name, parameter in trained.items():
                sample = together[name]
                if name in faults or sample is None:
                    continue
                if parameter.grad is None:
                    faults[name] = "the forward pass does not use it"
                elif not bool((sample[row] - parameter.grad).norm() <= _TOLERANCE * parameter.grad.norm() + 1e-7):
                    faults[name] = "its gradient for one example depends on the rest of the batch, or is wrong"
    finally:
        for name, parameter in trained.items():
            parameter.data.copy_(kept[name])
            parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]
    return faults


def _backward(module: nn.Module, losses: Callable[[slice], Tensor], rows: slice) -> None:
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad, parameter.grad_sample = None, None  # type: ignore[attr-defined]
    losses(rows).sum().backward()  # type: ignore[no-untyped-call]

"""Checks before a private training, on public sentences and random tokens: no row is read.

Wrong per-example gradients are clipped like right ones, and nothing else would show them. And the bound on the
influence of one unit holds only if an example's gradient does not depend on the examples computed beside it, not even
in its last bit.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from client.dp.clipped_sum import ClippedSum
from client.dp.random_examples import random_examples
from client.dp.workers import Workers
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import batch_losses, block_losses
from common.errors import ModelError
from common.tokenization.batches import IGNORED, TokenizedSet
from common.tokenization.blocks import POOLED_SIZES, padded_length, sizes

__all__ = ["verify_exactness", "verify_model", "verify_per_example_gradients"]

_TEXTS = ("net sales of the bank rose in the third quarter", "profit fell")

_TOLERANCE = 1e-3  # float32 rounding is near 1e-6; the faults looked for are of 5 % and more

_USUAL_TOKENS, _SHORT_TOKENS = 64, 24  # longest examples of the first check and of each later one, but for the limit


def verify_model(model: AdaptedModel) -> None:
    """Compare per-example gradients of two public sentences with autograd's.

    Call inside `client.dp.mechanism.make_private`. The model is in training mode afterwards, without dropout.

    Raises:
        ModelError: see `verify_per_example_gradients`; it also names the modules that can be trained. Or the base
            model's own head compares the rows of a batch.
    """
    base = model.base
    if base.is_encoder_decoder and base.head.labels_texts and base.pooling == "native":
        # transformers' heads refuse a batch unless each row has as many end tokens as the others. Padding has none.
        raise ModelError(
            f"base model {base.name}: its own head compares the rows of a batch, so it cannot be trained privately: "
            "set pooling to mean"
        )
    texts = TokenizedSet(tuple(_encoded(model, text) for text in _TEXTS), None, model.base.tokenizer.pad_token_id)
    if not model.base.is_exact:
        # Padding changes the rounding of such a model by more than the tolerance.
        texts = replace(texts, input_ids=tuple(ids[: min(texts.lengths)] for ids in texts.input_ids))

    def losses(rows: slice) -> Tensor:
        batch = texts.batch(range(2)[rows], model.base.device)  # padded, but for one that is alone
        first = torch.zeros_like(batch.input_ids[:, 0])
        labels = first if model.base.head.labels_texts else torch.where(batch.attention_mask.bool(), 0, IGNORED)
        model.eval_mode()
        hidden = model.frozen_output(batch)
        model.train_mode(dropout=False)
        return batch_losses(model, replace(batch, labels=labels, hidden=hidden))

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


def _encoded(model: AdaptedModel, text: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    return np.array(model.base.tokenizer(text)["input_ids"][: model.base.max_tokens], dtype=np.int64)


def verify_exactness(model: AdaptedModel, workers: Workers, max_batch_tokens: int, thorough: bool) -> None:
    """Compare the bits of an example's gradient in different company, at the adapter that `model` holds.

    The example stands first in a large block of the first worker, and last in a small one of the last worker, with
    other examples. The frozen layers are computed anew for each. Tokens and lengths are random.

    Args:
        workers: of `model`; its parameters are left without gradients.
        max_batch_tokens: of the training.
        thorough: check the longest and the shortest examples too, and alone among dummies.

    Raises:
        ModelError: a bit differs, so the training would not be as private as it is charged for.
    """
    rng = np.random.default_rng()
    limit = model.base.max_tokens
    usual = min(_USUAL_TOKENS, limit)
    lengths = [7, 12, usual // 2, usual - 1, limit] if thorough else [int(rng.integers(1, min(_SHORT_TOKENS, limit)))]
    for length in lengths:
        _verify_length(model, workers, max_batch_tokens, length, rng, thorough)


def _verify_length(
    model: AdaptedModel, workers: Workers, budget: int, length: int, rng: np.random.Generator, alone: bool
) -> None:
    """Verify exactness of an example of `length` tokens, among others that are padded to the same length."""
    limit = model.base.max_tokens
    length = min(int(random_examples(model, [length], rng).lengths[0]), limit)
    tokens = padded_length(length, limit)
    lengths = [other for other in range(1, tokens + 1) if padded_length(other, limit) == tokens]
    if length == tokens or model.head.scores_some_tokens:  # others would have a block of their own
        lengths = [length]

    def company(count: int) -> TokenizedSet:
        return random_examples(model, rng.choice(lengths, count).tolist(), rng)

    example = random_examples(model, [length], rng)
    large, small = sizes(tokens, budget, one_size=model.base.needs_one_size)
    first = _gradient(model, workers.private, _joined(example, company(large - 1)), 0, budget, POOLED_SIZES[0])
    beside = [(_joined(company(small - 1), example), small - 1, POOLED_SIZES[1])]
    if alone:
        beside.append((example, 0, 1))
    for data, target, pooled in beside:
        other = workers.last(partial(_gradient, data=data, target=target, budget=budget, pooled=pooled))
        if not bool(((first == other) | (first.isnan() & other.isnan())).all()):
            raise ModelError(
                f"private training: on this machine the gradient of an example of {length} tokens depends on the "
                "examples beside it: set OMP_NUM_THREADS=1, or train on another device"
            )


def _joined(one: TokenizedSet, other: TokenizedSet) -> TokenizedSet:
    labels = (*(one.labels or ()), *(other.labels or ()))
    return replace(one, input_ids=one.input_ids + other.input_ids, labels=labels)


def _gradient(
    model: AdaptedModel, clipped: ClippedSum, data: TokenizedSet, target: int, budget: int, pooled: int
) -> Tensor:
    """(P,) the gradient of example `target`. A model with one vector an example gets `pooled` rows, some repeated."""
    cache = FeatureCache()
    model.eval_mode()
    cache.fill(model, data, budget)
    model.train_mode(dropout=False)
    rows = np.arange(len(data))
    if cache.is_pooled and len(data) > 1:
        others = np.resize(np.setdiff1d(rows, target), pooled - 1)
        rows = np.insert(others, 0 if target == 0 else pooled - 1, target)
    block = next(block for block in cache.blocks(data, rows, budget) if target in block.rows)
    block_losses(model, cache.block_batch(data, block, model.base.device)).sum().backward()  # type: ignore[no-untyped-call]
    return clipped.take_samples()[int(np.flatnonzero(block.rows == target)[0])]


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

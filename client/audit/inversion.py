"""Reading a training sentence out of one adapter update, and trying the same through the run's clipping and noise.

LoRA adds s B A x to a linear layer's output for every token's input x. A is public, so for one sentence the gradient
of B is s times the sum over its tokens of d_t (A x_t)': every row of it is a mixture of the vectors A x_t. If the
sentence has fewer tokens than the rank, these span a proper subspace of R^rank, which the gradient shows; a token that
was not there falls into that subspace with probability zero. In the first layer x depends on the token and its place
alone, so every word of the vocabulary can be tried at every place. This needs no optimisation and makes no guesses.
Where places enter later only (rotary positions), the words are found without their order.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.audit.subject import Subject
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.feature_cache import FeatureCache
from common.adapters.tensors import seeded
from common.config.adapter import AdapterConfig
from common.errors import ModelError
from common.report.records import InversionResult
from common.tasks import task
from common.tokenization.batches import IGNORED, TokenizedSet

__all__ = ["invert"]

SENTENCES = (
    "profit warning expected on friday",
    "merger talks with rival collapsed",
    "loan default by largest customer",
    "dividend will be cut again",
    "auditor resigned over missing cash",
    "takeover bid at forty dollars",
    "regulator opens money laundering probe",
    "chief executive sells all shares",
    "credit line withdrawn without notice",
    "quarterly revenue missed every forecast",
)
"""Public, and ours; what they are about is the sort of thing that a bank would rather not have read back."""

_LEAST_RANK = 8
_CHUNK = 4096  # words of the vocabulary computed together
_RELATIVE_RANK = 1e-6  # singular values below this share of the largest are rounding


def invert(
    subject: Subject, noise_multiplier: float | None = None, progress: Callable[[str, int, int], None] | None = None
) -> InversionResult:
    """Attack the first layer of `subject`'s base model; its own adapter is taken off, `subject.model` of no more use.

    Args:
        noise_multiplier: plants other noise than the claim needs.

    Raises:
        ModelError: the model has no query projection, or its first layer does not read single tokens.
    """
    report = progress or (lambda *_: None)
    adapter = subject.config.adapter
    rank = max(_LEAST_RANK, adapter.rank if isinstance(adapter, AdapterConfig) else 0)
    subject.model.release()
    target = AdapterConfig(
        rank=rank, alpha=2.0 * rank, dropout=0.0, target_modules=("query",), layers="all", trained_factors="B"
    )
    model = adapt(subject.base, target, task(subject.config.task), seed=subject.config.seed)
    # As after some rounds: a head of zeros would send nothing back.
    model.load({n: seeded(0, n, v.shape) if n in model.head_names() else v for n, v in model.initial().items()})
    layer = _first_layer(model)
    texts = [_short(model, sentence, rank - 1) for sentence in SENTENCES]
    most = max(ids.size for ids in texts)
    report("reading sentences back from updates", 0, len(texts))
    table = _projections(model, layer, most)
    noise = subject.dp.noise_multiplier if noise_multiplier is None else noise_multiplier
    plans = {
        "plain": replace(subject.step(1), dp=None),
        "clipped": subject.step(1),
        "private": subject.step(1, noise_multiplier=noise),
    }
    placed = not np.allclose(table[:, 0], table[:, 1])
    special = model.base.tokenizer.all_special_ids
    found = dict.fromkeys(plans, 0)
    places: list[float] = []
    chance = 0.0
    example = ("", "", "")
    for number, ids in enumerate(texts):
        counted = np.flatnonzero(~np.isin(ids, special))
        truth = ids[counted]
        chance += len(truth) * (1 if placed else len(truth)) / table.shape[0]
        read: dict[str, NDArray[np.int64]] = {}
        for name, plan in plans.items():
            distance = _distances(table[:, : ids.size], _gradient(model, layer, ids, plan), ids.size)
            if placed:
                read[name] = distance.argmin(0)[counted]
                found[name] += int((read[name] == truth).sum())
            else:
                nearest = np.argsort(distance[:, 0], kind="stable")
                read[name] = nearest[~np.isin(nearest, special)][: len(truth)]
                found[name] += int(np.isin(truth, read[name]).sum())
            if name == "private":
                places += [float((distance[:, p] < distance[ids[p], p]).mean()) for p in counted]
        if number == 0:
            words = [model.base.tokenizer.decode(row) for row in (truth, read["plain"], read["private"])]
            example = (words[0], words[1], words[2])
        report("reading sentences back from updates", number + 1, len(texts))
    return InversionResult(
        rank=rank,
        sentences=len(texts),
        tokens=len(places),
        plain=found["plain"],
        clipped=found["clipped"],
        private=found["private"],
        chance=chance,
        place=float(np.mean(places)),
        example=example,
    )


def _short(model: AdaptedModel, sentence: str, most: int) -> NDArray[np.int64]:
    """The sentence's ids, cut to `most` with the tokens that frame it."""
    ids, frame = _ids(model, sentence), _ids(model, "")
    end = ids[ids.size - len(frame[1:]) :]
    return ids if ids.size <= most else np.concatenate([ids[: most - end.size], end])


def _ids(model: AdaptedModel, text: str) -> NDArray[np.int64]:
    """The ids of a text, without the words that a chat puts around a prompt."""
    if model.base.head.writes_text:
        return np.array(model.base.tokenizer(text)["input_ids"], dtype=np.int64)
    return model.encode([text]).input_ids[0]


def _first_layer(model: AdaptedModel) -> tuple[str, Any]:
    """Wire name of the first LoRA B, and the module that owns it."""
    for path, module in model.module.named_modules():
        if hasattr(module, "lora_B") and len(module.lora_B):
            return f"{path}.lora_B.weight", module
    raise ModelError(f"base model {model.base.name}: it has no query projection to attack: leave the inversion out")


class _Reached(Exception):
    pass


@torch.no_grad()
def _projections(model: AdaptedModel, layer: tuple[str, Any], places: int) -> NDArray[np.float64]:
    """(V, T, rank) A x of every word at every place: x is read off the model itself, on texts of one word repeated.

    Raises:
        ModelError: x of a place depends on the words around it, so that words cannot be tried one by one.
    """
    _, module = layer
    inputs: list[Tensor] = []

    def stop(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs.append(given[0])
        raise _Reached

    def run(ids: Tensor) -> Tensor:
        try:
            model.base.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        except _Reached:
            return inputs.pop()
        raise ModelError(f"base model {model.base.name}: its first layer is not reached")

    handle = module.register_forward_pre_hook(stop)
    a = module.lora_A["default"].weight.double()
    try:
        words = torch.arange(len(model.base.tokenizer), device=a.device)
        rows = []
        for chunk in torch.split(words, _CHUNK):
            rows.append((run(chunk[:, None].expand(-1, places)).double() @ a.T).cpu().numpy())
        mixed = torch.stack([words[-places:], words[-places:].flip(0)])
        alone = np.concatenate(rows)
        together = (run(mixed).double() @ a.T).cpu().numpy()
    finally:
        handle.remove()
    expected = alone[mixed.cpu().numpy(), np.arange(places)]
    if not np.allclose(together, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())):
        raise ModelError(f"base model {model.base.name}: its first layer mixes tokens: leave the inversion out")
    return alone


def _gradient(
    model: AdaptedModel, layer: tuple[str, Any], ids: NDArray[np.int64], plan: DpTrainingPlan
) -> NDArray[np.float64]:
    """(out, rank) what one step of the real loop, on this sentence alone, does to the layer's B."""
    name, _ = layer
    head = model.base.head
    label = np.where(np.isin(ids, _ids(model, "")), IGNORED, ids if head.writes_text else 1)
    labels = np.array(1) if head.labels_texts else label
    data = TokenizedSet((ids,), (labels,), model.base.tokenizer.pad_token_id, np.zeros(1, dtype=np.int64))
    before = model.export()
    train(model, data, plan, None if plan.dp is None else SystemNoise(), FeatureCache())
    after = model.export()
    model.load(before)
    moved: NDArray[np.float64] = before[name].astype(np.float64) - after[name]
    return moved


def _distances(table: NDArray[np.float64], gradient: NDArray[np.float64], tokens: int) -> NDArray[np.float64]:
    """(V, T) how far each word's A x is from the rows of the gradient, as a share of its length: 0 is in their span.

    The attacker is told how many tokens there are; without noise it could count them itself, by the singular values.
    """
    _, sizes, rows = np.linalg.svd(gradient, full_matrices=False)
    span = rows[: min(tokens, int((sizes > _RELATIVE_RANK * sizes[0]).sum()))]
    lengths = np.linalg.norm(table, axis=2)
    inside = np.linalg.norm(table @ span.T, axis=2)
    outside = np.sqrt(np.maximum(lengths**2 - inside**2, 0))
    # A padding token may have no length at all, and would be in every span.
    real = lengths > 1e-6 * lengths.max()
    distances: NDArray[np.float64] = np.divide(outside, lengths, out=np.ones_like(lengths), where=real)
    return distances

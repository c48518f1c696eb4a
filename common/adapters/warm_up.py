"""Warm up a language-model head that the files of the base model lack, before private text is used.

It is trained on public text without privacy, so the result may be shared.
"""

import time
from collections.abc import Sequence

import torch

from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import batch_losses
from common.adapters.optimizer import make_optimizer, parameter_groups
from common.base_models.masked_lm import MaskedLanguageModel
from common.errors import DataError
from common.events import Observer, StepEvent, tell_step
from common.tokenization.batches import minibatches, token_batches
from common.tokenization.language_modelling import mask_tokens

__all__ = ["needs_warm_up", "warm_up"]

_BATCH = 16
# Found on MiniLM with public filings: the head starts from zero and bears a larger rate than the adapter.
_RATE, _HEAD_RATE = 1e-3, 3e-3


def needs_warm_up(model: AdaptedModel) -> bool:
    """Return whether the files of the base model lack the head that predicts masked tokens."""
    inner = model.base.model
    return isinstance(inner, MaskedLanguageModel) and not inner.has_own_head


def warm_up(
    model: AdaptedModel,
    texts: Sequence[str],
    epochs: float = 1.0,
    max_batch_tokens: int = 4096,
    seed: int = 0,
    observers: Sequence[Observer] = (),
) -> None:
    """Train the head and the adapter on public text, in place, with Adam and 16 texts a step.

    Args:
        model: A masked language model with its adapter.
        texts: Public texts.
        epochs: Passes over the texts.
        max_batch_tokens: Bound on the tokens that are computed at once. It changes no result.
        seed: Of the masked tokens, the order of the texts, and dropout.
        observers: Called after each step.

    Raises:
        DataError: There is no text.
    """
    if not texts:
        raise DataError("public text: there is none to warm up a language model's head on")
    tokens = mask_tokens(model.encode(texts), model.base.tokenizer, seed)
    features = model.features(tokens, max_batch_tokens)
    size = min(_BATCH, len(tokens))
    steps = max(1, round(epochs * len(tokens) / size))
    optimizer = make_optimizer("adam", parameter_groups(model, _RATE, _HEAD_RATE), device=model.base.device)
    started = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train_mode()
        try:
            for step, rows in enumerate(minibatches(len(tokens), size, steps, seed), start=1):
                total = 0.0
                for part in token_batches(tokens.lengths, rows, max_batch_tokens):
                    device = model.base.device
                    batch = tokens.batch(part, device) if features is None else features.batch(tokens, part, device)
                    loss = batch_losses(model, batch).sum() / size
                    loss.backward()  # type: ignore[no-untyped-call]
                    total += float(loss.detach())
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                event = StepEvent(
                    step=step,
                    steps=steps,
                    epoch=1,
                    loss=total,
                    learning_rate=_RATE,
                    gradient_norm=None,
                    update_norm=0.0,
                    examples=len(rows),
                    tokens=int(tokens.lengths[rows].sum()),
                    seconds=time.monotonic() - started,
                    institution="the hub, on public text,",
                )
                tell_step(observers, event)
        finally:
            model.eval_mode()

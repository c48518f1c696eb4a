"""A language-model head that the base model's files lack is warmed up before anything is learned from private text.

On text that anybody may read, without privacy: the result may leave, and it decides nothing that private text should.
"""

from collections.abc import Callable, Sequence

import torch

from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import batch_losses
from common.adapters.optimizer import make_optimizer, parameter_groups
from common.base_models.masked_lm import MaskedLanguageModel
from common.errors import DataError
from common.tokenization.batches import minibatches, token_batches
from common.tokenization.language_modelling import mask_tokens

__all__ = ["needs_warm_up", "warm_up"]

_BATCH = 16
# Found on MiniLM with public filings: the head starts from zero and bears a larger rate than the adapter.
_RATE, _HEAD_RATE = 1e-3, 3e-3


def needs_warm_up(model: AdaptedModel) -> bool:
    """Whether the base model's files lack the head that guesses hidden tokens."""
    inner = model.base.model
    return isinstance(inner, MaskedLanguageModel) and not inner.has_own_head


def warm_up(
    model: AdaptedModel,
    texts: Sequence[str],
    epochs: float = 1.0,
    max_batch_tokens: int = 4096,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Train all that travels, head and adapter, on public `texts`, in place: 16 texts a step, Adam.

    Raises:
        DataError: there is no text.
    """
    if not texts:
        raise DataError("public text: there is none to warm up a language model's head on")
    tokens = mask_tokens(model.encode(texts), model.base.tokenizer, seed)
    features = model.features(tokens, max_batch_tokens)
    size = min(_BATCH, len(tokens))
    steps = max(1, round(epochs * len(tokens) / size))
    optimizer = make_optimizer("adam", parameter_groups(model, _RATE, _HEAD_RATE), device=model.base.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train_mode()
        try:
            for step, rows in enumerate(minibatches(len(tokens), size, steps, seed), start=1):
                for part in token_batches(tokens.lengths, rows, max_batch_tokens):
                    device = model.base.device
                    batch = tokens.batch(part, device) if features is None else features.batch(tokens, part, device)
                    (batch_losses(model, batch).sum() / size).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                on_step(step, steps)
        finally:
            model.eval_mode()

"""A language-model head that the base model's files lack is warmed up before anything is learned from private text.

On text that anybody may read, without privacy: the result may leave, and it decides nothing that private text should.
"""

from collections.abc import Callable, Sequence

from client.training import TrainingPlan, train
from common.adapters import AdaptedModel
from common.masked_model import MaskedLanguageModel
from common.masking import masked

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
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train all that travels, head and adapter, on public `texts`, in place: 16 texts a step, Adam.

    Raises:
        DataError: there is no text.
    """
    tokens = masked(model.encode(texts), model.base.tokenizer, seed)
    share = min(1.0, _BATCH / max(1, len(texts)))
    plan = TrainingPlan(
        steps=max(1, round(epochs / share)),
        sampling_probability=share,
        learning_rate=_RATE,
        head_learning_rate=_HEAD_RATE,
        optimizer="adam",
        max_batch_tokens=max_batch_tokens,
        dp=None,
        seed=seed,
    )
    train(model, tokens, plan, None, on_step=on_step)

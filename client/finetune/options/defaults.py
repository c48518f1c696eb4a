"""Which settings a training starts from when its user names none, each with its reason.

Pure figures in, pure figures out: no model is loaded, so that `advise` can say the same before anything is done.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from client.finetune.job import AdapterOptions, Method, TrainingOptions
from client.institution.config import power_of_two_at_most
from common.tasks import Head

__all__ = ["Defaults", "defaults"]

_SMALL_WIDTH = 512
"""Hidden sizes below it take a larger rate: MiniLM (384) at 2e-4 is far from done where 1e-3 is."""

_STEPS_WANTED = 1500

_TOKEN_HEAD_RATE = 5e-3
"""A word's head must move before the adapter does: at 1e-3 for both, MiniLM fell to "no entity anywhere" (F1 0) on
loan agreements, where the head alone reached .70 and this pair of rates .88 on held-out sentences."""


_TEXT_HEAD_RATE = 1e-2
"""A text's head starts at zero on pooled features of norm 4, so it must move much faster than an adapter. MiniLM's head
alone, three epochs of 2,000 rows, test accuracy at 1e-3 and at 1e-2: headlines .66 and .75, banking questions with 77
labels .69 and .89, paragraphs of annual reports .42 and .56."""


_PRIVATE_EPOCHS = 25
_PRIVATE_RATE = 0.25
_PRIVATE_BATCH = 4096


@dataclass(frozen=True)
class Defaults:
    """Every figure of a training, none left open; see `AdapterOptions` and `TrainingOptions`.

    head_learning_rate: of the task head, which starts at zero.
    optimizer: "adamw", "sgd", or "paged_adamw_32bit", which moves its state out of a full GPU's memory (on a CPU
        there is nothing to move, and it is AdamW).
    schedule: how the rate falls to zero after the warm-up: "linear" or "cosine"; a private training's is constant.
    warmup: share of the steps in which the rate rises.
    trained_factors: "AB", or "B" with A frozen.
    sampling_rate, clipping_norm: of a private training; 0 without privacy. Its epoch is one over the sampling rate.
    """

    method: Method
    rank: int
    alpha: float
    dropout: float
    target_modules: str | tuple[str, ...]
    layers: str
    virtual_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    optimizer: str
    schedule: str
    warmup: float
    trained_factors: Literal["AB", "B"] = "AB"
    sampling_rate: float = 0.0
    clipping_norm: float = 0.0


def defaults(
    adapter: AdapterOptions,
    training: TrainingOptions,
    head: Head,
    hidden_size: int,
    rows: int,
    private: bool = False,
    fresh_head: bool = True,
) -> Defaults:
    """The choices made, and for the rest:

    | setting | default | why |
    |---|---|---|
    | rank | 16; 32 for a label a word; qlora 64 | tags need more directions than labels; QLoRA's paper has 64 |
    | alpha | twice the rank | keeps the size of an update as the rank changes |
    | modules | all linear | query and value alone stalled at .64 where all reached .82 (MiniLM, headlines) |
    | rate | 1e-3 below width 512 (words 5e-4), else 2e-4; prompts 1e-2 | small models need larger steps |
    | head's rate | 1e-2 on pooled features; words 5e-3; else 1e-3 | it starts at zero |
    | epochs | 3 to 10, near 1,500 steps | few rows need more passes |

    `fresh_head`: the head reads pooled features, and was not trained before.

    With `private`: A is frozen, the last two blocks are adapted and nothing is dropped, all of which lessens noise;
    large batches (a quarter of the rows) and large steps of plain SGD carry what signal is left.
    """
    found = _without_privacy(adapter, training, head, hidden_size, rows, fresh_head)
    return _with_privacy(found, adapter, training, rows) if private else found


def _without_privacy(
    adapter: AdapterOptions, training: TrainingOptions, head: Head, hidden_size: int, rows: int, fresh_head: bool
) -> Defaults:
    prompt = adapter.method in ("prefix_tuning", "p_tuning")
    qlora = adapter.method == "qlora"
    rank = adapter.rank or (64 if qlora else 32 if head.labels_words else 16)
    batch = training.batch_size or 16
    steps_an_epoch = max(1, math.ceil(rows / batch))
    rate = training.learning_rate or _rate(prompt, head, hidden_size)
    return Defaults(
        method=adapter.method,
        rank=rank,
        alpha=adapter.alpha if adapter.alpha is not None else 2.0 * rank,
        dropout=adapter.dropout if adapter.dropout is not None else 0.05,
        target_modules=adapter.target_modules or "all-linear",
        layers=adapter.layers or "all",
        virtual_tokens=adapter.virtual_tokens or (20 if adapter.method == "prefix_tuning" else 8),
        epochs=training.epochs or min(10, max(3, math.ceil(_STEPS_WANTED / steps_an_epoch))),
        batch_size=batch,
        learning_rate=rate,
        head_learning_rate=max(rate, _head_rate(head, fresh_head)),
        optimizer="paged_adamw_32bit" if qlora else "adamw",
        schedule="cosine" if qlora else "linear",
        warmup=0.06,
    )


def _rate(prompt: bool, head: Head, hidden_size: int) -> float:
    """Of the adapter, where none was chosen."""
    if prompt:
        return 1e-2
    if hidden_size >= _SMALL_WIDTH:
        return 2e-4
    return 5e-4 if head.labels_words else 1e-3


def _head_rate(head: Head, fresh_head: bool) -> float:
    if head.labels_words:
        return _TOKEN_HEAD_RATE
    return _TEXT_HEAD_RATE if head.labels_texts and fresh_head else 1e-3


def _with_privacy(plain: Defaults, adapter: AdapterOptions, training: TrainingOptions, rows: int) -> Defaults:
    prompt = adapter.method in ("prefix_tuning", "p_tuning")
    layers = adapter.layers or "last:2"
    rate = training.learning_rate or (1e-2 if prompt else 4.0)
    # From the size band and not from the rows: what is divided by, and q, would otherwise count them for a reader.
    band = power_of_two_at_most(rows)
    batch = training.batch_size or min(round(_PRIVATE_RATE * band), _PRIVATE_BATCH)
    return replace(
        plain,
        rank=adapter.rank or 8,
        alpha=adapter.alpha if adapter.alpha is not None else 2.0 * (adapter.rank or 8),
        dropout=0.0,
        layers=layers,
        epochs=training.epochs or _PRIVATE_EPOCHS,
        batch_size=batch,
        learning_rate=rate,
        head_learning_rate=rate if prompt else 1.5 * rate,
        optimizer="adam" if prompt else "sgd",
        schedule="constant",
        warmup=0.0,
        trained_factors="AB" if prompt or layers == "none" else "B",
        sampling_rate=min(1.0, batch / band),
        clipping_norm=0.5,
    )

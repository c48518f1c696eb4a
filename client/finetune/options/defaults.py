"""Fill in the settings that a caller of fine-tuning leaves open.

Nothing is loaded: the values follow from the task's preset (`common.presets`), from the size of the base model and from
the number of rows. `advise` therefore gives the same values before anything is trained.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client.finetune.job import AdapterOptions, TrainingOptions
from client.institution.config import power_of_two_at_most
from common.config.adapter import (
    PROMPT_METHODS,
    VIRTUAL_TOKENS,
    AdapterConfig,
    AdapterSettings,
    PromptConfig,
    adapter_record,
)
from common.presets import Preset, preset
from common.tasks import Head, Task, task

__all__ = ["BaseFacts", "ResolvedSettings", "fill_in", "usual_settings"]

_SMALL_HIDDEN_SIZE = 512
"""Smaller models need a larger learning rate: at 2e-4, MiniLM (384) has hardly begun when it is done at 1e-3."""

_WANTED_STEPS = 1500
"""Optimiser steps of a training, as far as 3 to 10 epochs give them."""

_WARMUP = 0.06
_QLORA_RANK = 64
"""Of the paper on QLoRA (arXiv 2305.14314)."""

_TOKEN_HEAD_LEARNING_RATE = 5e-3
"""The head of a word must move before the adapter does. On loan agreements, MiniLM predicted no entity at all (F1 0)
with 1e-3 for both. The head alone reached F1 .70, and this pair of rates .88 on held-out sentences."""

_TEXT_HEAD_LEARNING_RATE = 1e-2
"""The head of a text starts at zero on pooled features of norm 4, so it must move much faster than an adapter. Test
accuracy of MiniLM's head alone after three epochs of 2,000 rows, at 1e-3 and at 1e-2: headlines .66 and .75, banking
questions with 77 labels .69 and .89, paragraphs of annual reports .42 and .56."""

_PROMPT_LEARNING_RATE = 1e-2

_PRIVATE_EPOCHS = 25
_PRIVATE_SAMPLING_RATE = 0.25
_PRIVATE_BATCH = 4096
_PRIVATE_CLIPPING_NORM = 0.5
_PRIVATE_LEARNING_RATE, _PRIVATE_RANK = 4.0, 8
"""Measured together. With A frozen, a clipped gradient of B moves the model in proportion to the square root of the
rank, and so does the noise. The rate is divided by that root, so that a step stays as large as it was measured."""


@dataclass(frozen=True)
class BaseFacts:
    """Facts about a base model that the settings follow from.

    Attributes:
        hidden_size: Width of the residual stream.
        max_tokens: Tokens of the longest text that the model reads.
    """

    hidden_size: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings:
    """Every setting of a training alone, with nothing left open.

    Attributes:
        adapter: Method, and the settings of that method.
        max_tokens: Tokens at which a text is cut.
        epochs, batch_size: Passes over the rows, and rows of one optimiser step.
        learning_rate, head_learning_rate: Of the adapter, and of the task head, which starts at zero.
        optimizer: "adamw", "adam", "sgd", or "paged_adamw_32bit" (see `common.adapters.optimizer`).
        schedule: "linear" or "cosine", by which the rate falls to zero after the warm-up, or "constant" with privacy.
        warmup: Share of the steps in which the rate rises.
        validation: Share of the training rows that is held out to choose the epoch by. 0 with privacy.
        patience: Epochs without improvement after which the training stops.
        max_batch_tokens: Padded tokens that are computed at once.
        precision: "auto", "float32", "bfloat16" or "float16".
        gradient_checkpointing: Whether activations are computed again for the backward pass.
        sampling_rate, clipping_norm: Of a private training, otherwise 0. Its epoch has 1 / `sampling_rate` steps.
    """

    adapter: AdapterSettings
    max_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    optimizer: str
    schedule: str
    warmup: float
    validation: float
    patience: int
    max_batch_tokens: int
    precision: str
    gradient_checkpointing: bool
    sampling_rate: float = 0.0
    clipping_norm: float = 0.0

    def to_record(self) -> dict[str, Any]:
        """Return all settings in one flat record, those of the adapter among them."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "adapter"}
        return adapter_record(self.adapter) | own


def fill_in(
    adapter: AdapterOptions | AdapterSettings,
    training: TrainingOptions,
    tasks: Sequence[Task],
    base: BaseFacts,
    rows: int,
    *,
    max_tokens: int | None = None,
    private: bool = False,
    fresh_head: bool = True,
) -> ResolvedSettings:
    """Return the settings of a training: those that were chosen, and for the others the task's preset and this table.

    | setting | default | reason |
    |---|---|---|
    | rank of qlora | 64 | as in its paper |
    | learning rate | 1e-3 below hidden size 512 (tags 5e-4), else 2e-4, prompts 1e-2 | small models need larger steps |
    | learning rate of the head | 1e-2 on pooled features, tags 5e-3, else 1e-3 | it starts at zero |
    | epochs | 3 to 10, near 1,500 steps | few rows need more passes |
    | with privacy | large batches (a quarter of the rows), large steps of SGD, 25 epochs | they carry most signal |

    Args:
        adapter: Options, or the settings of an adapter that is continued.
        tasks: One task, or those that share an encoder: the one with the largest rank gives the preset.
        rows: Training rows of all tasks.
        max_tokens: Tokens at which texts are cut. None takes the preset, and no more than the model reads.
        private: Whether the training is differentially private.
        fresh_head: Whether the head reads pooled features and was not trained before.
    """
    prompt = adapter.method in PROMPT_METHODS
    start = preset(max(tasks, key=lambda task: task.rank), private=private, prompt=prompt)
    head = next((task.head for task in tasks if task.head.labels_words), tasks[0].head)
    settings = _adapter(adapter, start, private) if isinstance(adapter, AdapterOptions) else adapter
    length = min(start.max_tokens, base.max_tokens - settings.virtual_tokens) if max_tokens is None else max_tokens
    common: dict[str, Any] = {
        "adapter": settings,
        "max_tokens": length,
        "patience": training.patience,
        "max_batch_tokens": max(training.max_batch_tokens or start.max_batch_tokens, length),
        "precision": training.precision,
        "gradient_checkpointing": training.gradient_checkpointing,
        "optimizer": _optimizer(settings, start, private),
    }
    if private:
        return ResolvedSettings(**common, **_private(settings, training, rows))
    return ResolvedSettings(**common, **_plain(settings, training, head, base.hidden_size, rows, fresh_head))


def _adapter(options: AdapterOptions, start: Preset, private: bool) -> AdapterSettings:
    if options.method == "prefix_tuning" or options.method == "p_tuning":
        return PromptConfig(
            method=options.method,
            virtual_tokens=options.virtual_tokens or VIRTUAL_TOKENS[options.method],
            prompt_text=options.prompt_text,
        )
    if options.preset is not None:
        start = preset(task(options.preset), private=private)
    rank = options.rank or (_QLORA_RANK if options.method == "qlora" else start.rank)
    layers = options.layers or start.layers
    return AdapterConfig(
        method=options.method,
        rank=rank,
        alpha=options.alpha if options.alpha is not None else rank * start.alpha / start.rank,
        dropout=options.dropout if options.dropout is not None else start.dropout,
        target_modules=options.target_modules or start.target_modules,
        layers=layers,
        trained_factors="AB" if layers == "none" else start.trained_factors,
    )


def _optimizer(adapter: AdapterSettings, start: Preset, private: bool) -> str:
    return "paged_adamw_32bit" if adapter.method == "qlora" and not private else start.optimizer


def _plain(
    adapter: AdapterSettings, training: TrainingOptions, head: Head, hidden_size: int, rows: int, fresh_head: bool
) -> dict[str, Any]:
    batch = training.batch_size or 16
    steps_an_epoch = max(1, math.ceil(rows / batch))
    rate = training.learning_rate or _learning_rate(adapter, head, hidden_size)
    return {
        "epochs": training.epochs or min(10, max(3, math.ceil(_WANTED_STEPS / steps_an_epoch))),
        "batch_size": batch,
        "learning_rate": rate,
        "head_learning_rate": max(rate, _head_learning_rate(head, fresh_head)),
        "schedule": "cosine" if adapter.method == "qlora" else "linear",
        "warmup": _WARMUP,
        "validation": training.validation,
    }


def usual_settings(settings: ResolvedSettings, tasks: Sequence[Task], base: BaseFacts) -> dict[str, float]:
    """Return the learning rate and the rank that a training would have had if nothing had been chosen.

    Recommendations compare a training with them.
    """
    head = next((task.head for task in tasks if task.head.labels_words), tasks[0].head)
    usual: dict[str, float] = {"usual_learning_rate": _learning_rate(settings.adapter, head, base.hidden_size)}
    if isinstance(settings.adapter, AdapterConfig):
        preset_rank = max(task.rank for task in tasks)
        usual["usual_rank"] = _QLORA_RANK if settings.adapter.method == "qlora" else preset_rank
    return usual


def _learning_rate(adapter: AdapterSettings, head: Head, hidden_size: int) -> float:
    if isinstance(adapter, PromptConfig):
        return _PROMPT_LEARNING_RATE
    if hidden_size >= _SMALL_HIDDEN_SIZE:
        return 2e-4
    return 5e-4 if head.labels_words else 1e-3


def _head_learning_rate(head: Head, fresh_head: bool) -> float:
    if head.labels_words:
        return _TOKEN_HEAD_LEARNING_RATE
    return _TEXT_HEAD_LEARNING_RATE if head.labels_texts and fresh_head else 1e-3


def _private(adapter: AdapterSettings, training: TrainingOptions, rows: int) -> dict[str, Any]:
    # From the power of two, not from the rows: the divisor and q would otherwise give the number of rows away.
    units = power_of_two_at_most(rows)
    batch = training.batch_size or min(round(_PRIVATE_SAMPLING_RATE * units), _PRIVATE_BATCH)
    prompt = isinstance(adapter, PromptConfig)
    rate = training.learning_rate or (_PROMPT_LEARNING_RATE if prompt else _PRIVATE_LEARNING_RATE)
    scale = 1.0
    if training.learning_rate is None and isinstance(adapter, AdapterConfig) and adapter.layers != "none":
        scale = math.sqrt(_PRIVATE_RANK / adapter.rank)
    return {
        "epochs": training.epochs or _PRIVATE_EPOCHS,
        "batch_size": batch,
        "learning_rate": scale * rate,
        "head_learning_rate": rate if prompt else 1.5 * rate,
        "schedule": "constant",
        "warmup": 0.0,
        # No private row may choose the epoch: all of them train.
        "validation": 0.0,
        "sampling_rate": min(1.0, batch / units),
        "clipping_norm": _PRIVATE_CLIPPING_NORM,
    }

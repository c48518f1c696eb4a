"""The settings of an adapter, with nothing left open: those of LoRA, or those of a soft prompt.

A run's file, a saved adapter and a training alone hold the same value. `common.presets` fills in what a caller leaves
open.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from common.config.sections import Range, Section, format_value
from common.errors import ConfigurationError

__all__ = [
    "METHODS",
    "PROMPT_METHODS",
    "PROMPT_TEXT",
    "VIRTUAL_TOKENS",
    "AdapterConfig",
    "AdapterSettings",
    "Method",
    "PromptConfig",
    "adapter_from_record",
    "adapter_kind",
    "adapter_record",
]

Method = Literal["lora", "qlora", "prefix_tuning", "p_tuning"]
METHODS: tuple[str, ...] = get_args(Method)
PROMPT_METHODS = ("prefix_tuning", "p_tuning")
"""Methods that train virtual tokens and no LoRA factors."""

VIRTUAL_TOKENS: Mapping[str, int] = {"prefix_tuning": 20, "p_tuning": 8}
PROMPT_TEXT = "Financial analysis task:"
"""Text of the virtual tokens of p_tuning at the start, if no other is given."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(Section):
    """The LoRA adapter of a training, alone or in a federation. `common.presets` fills in absent values.

    method: "lora", or "qlora" (LoRA on weights of four bits).
    target_modules: "task" (the task's roles), "all-linear", or role names.
    layers: "all", "last:K" (the last K blocks), or "none" (the head alone, no LoRA).
    dropout: of LoRA's input. Not under differential privacy.
    trained_factors: "AB", or "B" with A frozen at values derived from the run's seed (FFA-LoRA, arXiv 2403.12313).
    new_tokens: how many rows at the end of the embeddings are trained too, those of words that were added to the base
        model's vocabulary. Not under differential privacy, because no per-example rule exists for them.
    """

    section = "adapter"
    method: Literal["lora", "qlora"] = "lora"
    rank: Annotated[int, Range(1, 1024)]
    alpha: Annotated[float, Range(0, above=True)]
    dropout: Annotated[float, Range(0, 1, below=True)]
    target_modules: Literal["task", "all-linear"] | tuple[str, ...]
    layers: str
    trained_factors: Literal["AB", "B"]
    new_tokens: Annotated[int, Range(0, 1_000_000)] = 0

    def check(self) -> None:
        if not self.target_modules:
            self.refuse("target_modules", 'is empty: name roles, or use layers = "none" to train the head alone')
        if self.layers not in ("all", "none") and not re.fullmatch("last:[1-9][0-9]{0,3}", self.layers):
            self.refuse("layers", f'is {format_value(self.layers)}: use "all", "none", or "last:K" with K at least 1')
        if self.layers == "none" and self.trained_factors == "B":
            self.refuse("trained_factors", 'is "B", but layers = "none" trains no LoRA factors: leave it out')

    @property
    def virtual_tokens(self) -> int:
        """Zero: LoRA puts no token before a text."""
        return 0


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Section):
    """The soft prompt of a training, alone or in a federation.

    method: "p_tuning" (embeddings of virtual tokens), or "prefix_tuning" (keys and values in every block).
    virtual_tokens: the number of virtual tokens before each text.
    prompt_text: words whose embeddings p_tuning starts from. None with prefix_tuning.
    """

    section = "adapter"
    method: Literal["prefix_tuning", "p_tuning"]
    virtual_tokens: Annotated[int, Range(1, 512)]
    prompt_text: str | None = None

    def check(self) -> None:
        if self.method == "prefix_tuning" and self.prompt_text is not None:
            self.refuse("prompt_text", 'is given, but method = "prefix_tuning" starts from no words: leave it out')
        if self.method == "p_tuning" and self.prompt_text is None:
            object.__setattr__(self, "prompt_text", PROMPT_TEXT)


AdapterSettings = AdapterConfig | PromptConfig


def adapter_kind(method: object) -> type[AdapterConfig] | type[PromptConfig]:
    """Return the class of settings of a method.

    Raises:
        ConfigurationError: There is no such method.
    """
    if method not in METHODS:
        names = ", ".join(METHODS)
        raise ConfigurationError(f"adapter.method is {format_value(method)}: use one of {names}")
    return PromptConfig if method in PROMPT_METHODS else AdapterConfig


def adapter_from_record(record: Mapping[str, Any]) -> AdapterSettings:
    """Return the settings of a flat record, such as `fedfin.json` holds. Values of other methods are left out.

    Raises:
        KeyError, TypeError: A value is absent.
        ConfigurationError: A value is out of range, or the method is unknown.
    """
    if "train" in record:  # the name of this field up to release 0.1
        record = {**record, "trained_factors": record["train"]}
    kind = adapter_kind(record["method"])
    return kind(**{name: record[name] for name in kind.__dataclass_fields__ if name in record})


def adapter_record(settings: AdapterSettings) -> dict[str, Any]:
    """Return method and values in one flat record, for a file or a report."""
    return {name: value for name, value in asdict(settings).items() if value is not None}

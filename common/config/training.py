"""Sections [model] and [training] of a run: the work of each institution in a round."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from common.config.sections import Range, Section

__all__ = ["ModelConfig", "TrainingConfig"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The frozen base model. `base` is "minilm" (packaged), a directory, or a hub name. Texts are cut at `max_tokens`
    tokens.

    base_digest: SHA-256 over the base model's files (`common.base_models.digest`), set when a run starts.
        An institution whose files have a different digest refuses to train.
    """

    section = "model"
    base: str = "minilm"
    pooling: Literal["mean", "native"] = "mean"
    max_tokens: Annotated[int, Range(4, 131072)]
    dtype: Literal["float32", "bfloat16"] = "float32"
    base_digest: str | None = None

    def check(self) -> None:
        if self.base_digest is not None and not re.fullmatch("[0-9a-f]{64}", self.base_digest):
            self.refuse("base_digest", "is no SHA-256 in hexadecimal digits: leave it out, and it is filled in")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """Local training of each institution in a round.

    local_steps or local_epochs (an epoch is 1/q steps). sampling_rate q, of the unit that `PrivacyConfig` protects, or
    expected_batch_size (records).
    adam_noise_correction: under privacy, subtract the noise's known variance from Adam's second moment
        (arXiv 2312.14334).
    max_batch_tokens: padded tokens of one physical batch. It bounds memory and changes no result.
    """

    section = "training"
    local_steps: Annotated[int | None, Range(1, 1_000_000)] = None
    local_epochs: Annotated[float | None, Range(0, 10_000, above=True)] = None
    sampling_rate: Annotated[float | None, Range(0, 1, above=True)] = None
    expected_batch_size: Annotated[int | None, Range(1, 2**40)] = None
    learning_rate: Annotated[float, Range(0, above=True)]
    head_learning_rate: Annotated[float | None, Range(0, above=True)] = None
    optimizer: Literal["sgd", "adamw", "adam"]
    adam_noise_correction: bool = False
    max_batch_tokens: Annotated[int, Range(4, 2**40)]

    def check(self) -> None:
        for one, other in (("local_steps", "local_epochs"), ("sampling_rate", "expected_batch_size")):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                both = "is missing" if getattr(self, one) is None else f"stands beside {self.place(other)}"
                self.refuse(one, f"{both}: give exactly one of {one} and {other}")
        if self.adam_noise_correction and self.optimizer == "sgd":
            self.refuse("adam_noise_correction", 'is true, but optimizer = "sgd" has no second moment: leave it out')

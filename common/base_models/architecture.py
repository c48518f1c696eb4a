"""What a base model's `config.json` says of it, before any weight is read."""

from pathlib import Path
from typing import Any

import transformers

from common.errors import ModelError

__all__ = ["generator_class", "hidden_size", "is_decoder", "max_positions", "read_config"]

_DECODERS = frozenset(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"))
_POSITIONS_AFTER_PADDING = frozenset(("roberta", "xlm-roberta", "camembert"))


def read_config(name: str, path: str | Path) -> Any:
    """transformers' configuration of base model `name`, which lies in `path`.

    Raises:
        ModelError: it cannot be read, or is of an architecture that transformers does not know.
    """
    try:
        return transformers.AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"base model {name}: its config.json cannot be read: save the model again") from error


def hidden_size(config: Any) -> int:
    """Numbers that stand for a token between two blocks."""
    return int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.dim)


def max_positions(config: Any) -> int:
    """The longest text that the model has positions for."""
    places = int(getattr(config, "max_position_embeddings", None) or 131_072)
    # RoBERTa and its kin count positions from the padding's number on.
    return places - (config.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0)


def is_decoder(config: Any) -> bool:
    """Whether the architecture is one of those decoders (gated, seven projections a block) that are trained here."""
    return config.model_type in _DECODERS


def generator_class(name: str, config: Any) -> Any:
    """transformers' class for base model `name` as a writer of summaries.

    Raises:
        ModelError: it is neither an encoder-decoder nor one of the decoders.
    """
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    if is_decoder(config):
        return transformers.AutoModelForCausalLM
    raise ModelError(
        f"base model {name} ({config.model_type}): it cannot write summaries: use a decoder such as smollm2, or an "
        "encoder-decoder such as t5 or bart"
    )

"""Facts of a base model that its `config.json` holds, before any weight is read."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from common.base_models import files
from common.base_models.files import json_object
from common.base_models.transformers_logging import quiet
from common.errors import ModelError

__all__ = ["generator_class", "hidden_size", "is_decoder", "max_positions", "read_config"]

_WITHOUT_LIMIT = 131_072
"""Tokens of the longest text for a model whose positions have no table: more than any text here."""


def read_config(name: str, path: str | Path) -> Any:
    """transformers' configuration of base model `name`, which lies in `path`.

    Raises:
        ModelError: it cannot be read, or is of an architecture that transformers does not know.
    """
    try:
        return transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if family := json_object(Path(path) / "config.json").get("model_type"):
            raise ModelError(
                f"base model {name}: transformers does not know its architecture, {str(family)[:40]}: choose another "
                "base model"
            ) from error
        raise ModelError(f"base model {name}: its config.json cannot be read: save the model again") from error


def hidden_size(config: Any) -> int:
    """Return the hidden size (width of the residual stream) of the model."""
    return int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.dim)


def max_positions(config: Any) -> int:
    """Return the number of tokens of the longest text that the model has positions for.

    It is read off the shapes of a model without weights. RoBERTa, MPNet and Longformer count positions from the
    padding's id on and have that many fewer. Models that pad texts to their attention window read whole windows.
    """
    limits = [int(getattr(config, "max_position_embeddings", None) or _WITHOUT_LIMIT)]
    for name, module in _shapes(config).named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]:
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    windows = getattr(config, "attention_window", None)
    window = max(windows) if isinstance(windows, list | tuple) else windows or 1
    return min(limits) // int(window) * int(window)


def _shapes(config: Any) -> nn.Module:
    try:
        with quiet(), torch.device("meta"):
            model: nn.Module = transformers.AutoModel.from_config(config, trust_remote_code=False)
    except Exception:  # an architecture that AutoModel does not build is refused when it is loaded
        return nn.Module()
    return model


def is_decoder(config: Any) -> bool:
    """Whether the architecture is one of those decoders (gated, seven projections a block) that are trained here."""
    return files.is_decoder(config.model_type)


def generator_class(name: str, config: Any) -> Any:
    """transformers' class for base model `name` as a writer of texts.

    Raises:
        ModelError: it is neither an encoder-decoder nor one of the decoders.
    """
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    if is_decoder(config):
        return transformers.AutoModelForCausalLM
    raise files.no_writer(name, config.model_type)

"""Check of a base model's files that reads no weights: config, weights and tokenizer present, and of one size.

Starts without torch, so that the hub can check a run's base model before the run exists.
"""

import json
from pathlib import Path
from typing import Any

from common.base_models.digest import WEIGHTS
from common.errors import ModelError

__all__ = [
    "MERGED_CODE",
    "check_files",
    "check_sizes",
    "check_writer",
    "is_decoder",
    "json_object",
    "no_writer",
    "refuse_long_texts",
    "refuse_small_embeddings",
]

MERGED_CODE = "modeling_fedfin"
"""Name of the module that `merge` writes beside a merged model, for other programs. It is never run here either."""

_DECODERS = frozenset(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"))

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
_POINTER = b"version https://git-lfs"
_WITHOUT_VOCABULARY = frozenset(("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"))
"""Tokenizers of bytes or characters. They need no vocabulary file."""


def check_files(name: str, path: Path) -> None:
    """Refuse a directory that lacks a configuration, weights or a tokenizer, or that brings code of its own.

    Code in a model's directory is never run here, and the digest of a base model does not cover it. The file that
    `merge` writes may be there, because a merged model is a base model like another.

    Raises:
        ModelError: names the missing files, to be copied there, or the code.
    """
    if code := sorted(file.name for file in path.glob("*.py") if file.stem != MERGED_CODE):
        raise ModelError(
            f"base model {name}: its directory holds code ({code[0]}), which is not run here: choose a model of an "
            "architecture that transformers has, in a directory without code"
        )
    if not (path / "config.json").is_file():
        raise ModelError(f"base model {name}: no config.json in its directory: save it there with save_pretrained")
    weights = [file for pattern in WEIGHTS for file in sorted(path.glob(pattern))]
    if not weights:
        raise ModelError(f"base model {name}: no weights (*.safetensors) in its directory: copy them there")
    for file in weights:
        if _is_pointer(file):
            raise ModelError(
                f"base model {name}: {file.name} is a pointer of Git LFS, not the file itself: run `git lfs pull` in "
                "its directory, or copy the file there"
            )
    if any(list(path.glob(pattern)) for pattern in _VOCABULARIES):
        return
    if json_object(path / "tokenizer_config.json").get("tokenizer_class") not in _WITHOUT_VOCABULARY:
        raise ModelError(
            f"base model {name}: no tokenizer (tokenizer.json, vocab.txt or *.model) in its directory: copy it there"
        )


def _is_pointer(file: Path) -> bool:
    """Return whether a file only names the file that Git LFS keeps elsewhere (specification 1)."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def check_sizes(name: str, path: Path, max_tokens: int = 0) -> None:
    """Refuse a tokenizer.json with more tokens than config.json has embeddings, and texts longer than its positions.

    Args:
        max_tokens: the length at which texts will be cut.

    Raises:
        ModelError: gives both numbers and the remedy.
    """
    config = json_object(path / "config.json")
    rows, positions = config.get("vocab_size"), config.get("max_position_embeddings")
    if isinstance(positions, int):
        refuse_long_texts(name, max_tokens, positions)
    content = json_object(path / "tokenizer.json")
    try:
        vocabulary = content["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        # A special token that no text holds may stand above the embeddings (Gemma 3 without its images).
        plain = [token["id"] for token in content.get("added_tokens") or () if not token.get("special")]
        highest = max((*ids, *plain), default=-1)
    except (KeyError, TypeError, AttributeError):
        return  # not read here: the tokenizer is checked again when it is loaded
    if isinstance(rows, int):
        refuse_small_embeddings(name, highest, rows)


def is_decoder(model_type: object) -> bool:
    """Whether the architecture is one of those decoders (gated, seven projections a block) that are trained here."""
    return model_type in _DECODERS


def check_writer(name: str, path: Path) -> None:
    """Refuse a base model that cannot write texts, by its config.json alone.

    Raises:
        ModelError: it is neither an encoder-decoder nor one of the decoders.
    """
    config = json_object(path / "config.json")
    if not config.get("is_encoder_decoder") and not is_decoder(config.get("model_type")):
        raise no_writer(name, config.get("model_type"))


def no_writer(name: str, model_type: object) -> ModelError:
    """Return the error about a base model of an architecture that cannot write texts."""
    return ModelError(
        f"base model {name} ({str(model_type)[:40]}): it cannot write text: use a decoder such as smollm2, or an "
        "encoder-decoder such as t5 or bart"
    )


def refuse_small_embeddings(name: str, highest: int, rows: int) -> None:
    """Refuse a tokenizer whose highest id, `highest`, has no row among the `rows` of the embeddings."""
    if highest >= rows:
        raise ModelError(
            f"base model {name}: its tokenizer has {highest + 1} tokens and its embeddings have {rows} rows: "
            "resize the embeddings and save the model again, or copy the model's own tokenizer there"
        )


def refuse_long_texts(name: str, max_tokens: int, positions: int) -> None:
    """Refuse a maximum of `max_tokens` tokens above the `positions` of the model."""
    if max_tokens > positions:
        raise ModelError(f"max_tokens is {max_tokens}: base model {name} reads at most {positions}: lower it")


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one if the file is absent or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""A merged decoder as a GGUF file, which llama.cpp reads.

The package gguf writes the file. Metadata and tokenizer are those of the GGUF file that the base model comes from,
because a tokenizer of Hugging Face does not say by itself which of llama.cpp's tokenizers equals it.
"""

import importlib.util
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.base_models.resolve import packaged_gguf
from common.errors import ConfigurationError, ModelError

__all__ = ["check_gguf", "write_gguf"]

_OWN = ("general.architecture", "general.file_type", "general.quantization_version", "tokenizer.chat_template")
"""Metadata that the new file has of its own, beside the counts that every file has."""


def check_gguf(file: Path, base_model: str) -> Path:
    """Return the GGUF file that a base model comes from. Nothing is loaded.

    Args:
        file: The file to be written.
        base_model: Name of the base model.

    Raises:
        ConfigurationError: `file` exists, or its directory does not.
        ModelError: The base model does not come from a GGUF file, or the package gguf is absent.
    """
    if file.exists():
        raise ConfigurationError(f"{file}: it exists already: choose another file")
    if not file.parent.is_dir():
        raise ConfigurationError(f"{file}: no such directory: make {file.parent} first")
    source = packaged_gguf(base_model)
    if source is None:
        raise ModelError(
            f"base model {base_model}: it does not come from a GGUF file, whose tokenizer llama.cpp needs: leave "
            "--gguf out, and convert the merged directory with llama.cpp's convert_hf_to_gguf.py"
        )
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{file}: writing it needs the package gguf: pip install 'fedfin[smollm2]'")
    return source


def write_gguf(model: Any, chat_template: str, source: Path, file: Path) -> None:
    """Write a merged decoder of the Llama architecture. Matrices are in float16, vectors in float32.

    Args:
        model: transformers' model, merged.
        chat_template: The template of its prompts.
        source: The GGUF file of its base model.
        file: The new file. It appears whole, or not at all.

    Raises:
        ModelError: The model is of another architecture, a weight has no name in GGUF, or exceeds float16.
    """
    import gguf

    if model.config.model_type != "llama":
        raise ModelError(f"{file}: only the Llama architecture is written, and this is {model.config.model_type}")
    handle, draft = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        writer = gguf.GGUFWriter(draft, "llama")
        for field in gguf.GGUFReader(source).fields.values():
            if not field.name.startswith("GGUF.") and field.name not in _OWN:
                sub_type = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_chat_template(chat_template)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
        for name, value in model.state_dict().items():
            if name == "lm_head.weight" and model.config.tie_word_embeddings:
                continue
            written = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if written is None:
                raise ModelError(f"{file}: weight {name} has no name in GGUF: leave --gguf out")
            writer.add_tensor(written, _rows(name, value.float().numpy(), model.config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        Path(draft).chmod(0o644)
        Path(draft).replace(file)
    finally:
        with suppress(FileNotFoundError):
            Path(draft).unlink()


def _rows(name: str, value: NDArray[np.float32], config: Any) -> NDArray[Any]:
    """Return a weight as the file has it.

    llama.cpp rotates neighbouring pairs of the rows of a head, and transformers the two halves of it. So the rows of
    queries and keys are interleaved.
    """
    if value.ndim == 1:
        return value
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config.num_attention_heads if name.endswith("q_proj.weight") else config.num_key_value_heads
        value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    if not np.isfinite(half := value.astype(np.float16)).all():
        raise ModelError(f"weight {name} exceeds the range of float16: leave --gguf out")
    return half

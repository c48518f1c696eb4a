"""Which files make a base model, and the digest that names them. Starts without torch."""

import hashlib
from pathlib import Path

__all__ = ["OTHER_FILES", "WEIGHTS", "base_digest"]

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
OTHER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)


def base_digest(path: str | Path) -> str:
    """SHA-256, in hex, over the names and contents of the files that make the model: weights, config, tokenizer."""
    root = Path(path)
    patterns = [*(WEIGHTS[:1] if any(root.glob(WEIGHTS[0])) else WEIGHTS), *OTHER_FILES]
    total = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in root.glob(pattern)}):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.name}\0{content}\n".encode())
    return total.hexdigest()

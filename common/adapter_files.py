"""An adapter as a directory in PEFT's format: weights, configuration, and a card that says how to load them."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft

from common.codec import Tensors, encode
from common.files import write_atomic
from common.model import LoadedBase

__all__ = ["write_adapter"]


def write_adapter(
    directory: Path,
    base: LoadedBase,
    config: peft.LoraConfig,
    tensors: Tensors,
    card: Mapping[str, Any],
    beside: Mapping[str, bytes],
) -> None:
    """Write weights, configuration, card and the files `beside` them in a draft, then put it in `directory`'s place.

    Equal adapters give equal bytes. Raises OSError where the disk refuses; the old directory then still stands.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        write_atomic(draft / "adapter_model.safetensors", encode(tensors))
        write_atomic(draft / "adapter_config.json", _config_json(config).encode())
        write_atomic(draft / "README.md", _card(base, config, card).encode())
        for name, content in beside.items():
            write_atomic(draft / name, content)
        draft.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        draft.replace(directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _config_json(config: peft.LoraConfig) -> str:
    values = {**config.to_dict(), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    return json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"


def _loading_lines(base: LoadedBase) -> str:
    head = ', head="token"' if base.head == "token" else ""
    return (
        "from peft import PeftModel\n"
        "from common.model import load_classifier\n"
        f'model = PeftModel.from_pretrained(load_classifier("{base.name}", {base.labels}, '
        f'pooling="{base.pooling}"{head}), "THIS DIRECTORY")\n'
    )


def _card(base: LoadedBase, config: peft.LoraConfig, card: Mapping[str, Any]) -> str:
    facts = {
        "Base model": f"{base.name} ({base.family}), SHA-256 {base.digest}",
        "Head": f"{base.head}, {base.labels} labels, pooling {base.pooling}",
        "LoRA": f"rank {config.r}, alpha {config.lora_alpha}" if isinstance(config.target_modules, set) else "none",
        **card,
    }
    lines = "\n".join(f"- **{name}**: {value}" for name, value in facts.items())
    return (
        "---\nlibrary_name: peft\n---\n\n# A fedfin adapter\n\n"
        f"{lines}\n\n## Load it\n\n```python\n{_loading_lines(base)}```\n\n"
        f"The tokenizer is the base model's; texts were cut at {base.max_tokens} tokens.\n"
    )

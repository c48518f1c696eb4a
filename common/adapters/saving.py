"""An adapter as a directory in PEFT's format: weights, configuration, and a card that says how to load them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft

from common.base_models.heads import SharedEncoder
from common.base_models.load import LoadedBase
from common.files import replace_directory, write_atomic
from common.protocol.adapter_codec import Tensors, encode
from common.tasks import Head

__all__ = ["TEMPLATE", "write_adapter"]

TEMPLATE = "chat_template.jinja"
"""Name of the file with the template of the prompts that an adapter was trained on, as transformers names it."""


def write_adapter(
    directory: Path,
    base: LoadedBase,
    config: peft.PeftConfig,
    tensors: Tensors,
    card: Mapping[str, Any],
    beside: Mapping[str, bytes],
) -> None:
    """Write an adapter's directory whole or not at all. Equal adapters give equal bytes.

    Args:
        directory: The directory, which is replaced whole.
        base: The base model of the adapter.
        config: PEFT's configuration of the adapter.
        tensors: All its tensors by wire name, with a frozen A.
        card: Lines of the model card, by name.
        beside: Contents of further files, by name.

    Raises:
        OSError: The disk refuses. The old directory stays as it was.
    """
    with replace_directory(directory) as draft:
        write_atomic(draft / "adapter_model.safetensors", encode(tensors))
        write_atomic(draft / "adapter_config.json", _config_json(config).encode())
        write_atomic(draft / "README.md", _card(base, config, card).encode())
        if base.head.writes_text and base.tokenizer.chat_template:
            write_atomic(draft / TEMPLATE, base.tokenizer.get_chat_template().encode())
        for name, content in beside.items():
            write_atomic(draft / name, content)


def _config_json(config: peft.PeftConfig) -> str:
    values = {**config.to_dict(), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    return json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"


def _loading_lines(base: LoadedBase) -> str:
    """Return the lines of Python that load the adapter in the card's directory and use it."""
    if base.head.is_language_modelling:
        # A language model labels nothing. Other adapters are trained on it.
        return "Fine-tune its base model on a task: `fedfin.FineTuningJob(..., base_model=DIRECTORY)`.\n"
    several = list(base.model.kinds) if isinstance(base.model, SharedEncoder) else list(dict.fromkeys(base.tasks))
    task = f', task="{several[0]}"' if several else ""
    text = "Did profit rise or fall? Profit rose." if base.head is Head.INSTRUCTION else "Profit rose."
    lines = f'import fedfin\n\nmodel = fedfin.load_adapter("THIS DIRECTORY"{task})\nmodel.predict(["{text}"])\n'
    others = f"\nIts tasks: {', '.join(several)}.\n" if several else ""
    return f"```python\n{lines}```\n{others}"


def _described(config: peft.PeftConfig) -> str:
    if isinstance(config, peft.PromptLearningConfig):
        return f"{config.peft_type.value.lower()}, {config.num_virtual_tokens} virtual tokens"
    return f"LoRA, rank {config.r}, alpha {config.lora_alpha}" if isinstance(config.target_modules, set) else "none"


def _card(base: LoadedBase, config: peft.PeftConfig, card: Mapping[str, Any]) -> str:
    facts = {
        "Base model": f"{base.name} ({base.family}), SHA-256 {base.digest}",
        "Head": f"{base.head}, {base.labels} labels, pooling {base.pooling}",
        "Adapter": _described(config),
        **card,
    }
    lines = "\n".join(f"- **{name}**: {value}" for name, value in facts.items())
    return (
        "---\nlibrary_name: peft\n---\n\n# A fedfin adapter\n\n"
        f"{lines}\n\n## Use it\n\n{_loading_lines(base)}\n"
        f"The tokenizer is the base model's; texts were cut at {base.max_tokens} tokens.\n"
    )

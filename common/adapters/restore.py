"""The trained model that an adapter's directory describes: its base model with the adapter attached."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach
from common.adapters.manifest import Manifest, adapter_directory, at_base_model, read_manifest
from common.adapters.saving import TEMPLATE
from common.base_models.load import load_base, load_shared_base
from common.base_models.provenance import read_provenance
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError

__all__ = ["build", "load_adapter", "restore_adapter"]


def build(recipe: Manifest, device: str = "cpu") -> AdaptedModel:
    """The base model with the recipe's adapter attached, at its starting point.

    Raises:
        ModelError: the base model is absent, or cannot take this adapter or do this task. The message names another.
    """
    kind, adapter = recipe.kinds[0], recipe.adapter
    quantized = adapter.method == "qlora"
    settings = ModelConfig(base=recipe.base_model, pooling=recipe.pooling, max_tokens=recipe.max_tokens)
    if len(recipe.tasks) > 1:
        heads = {each.name: (each.head, len(recipe.tasks[each.name])) for each in recipe.kinds}
        base = load_shared_base(settings, heads, device, quantized)
    else:
        base = load_base(settings, kind, tuple(recipe.tasks[kind.name]), device, quantized)
    if isinstance(adapter, AdapterConfig):
        # Words that were added to the base model's vocabulary are learned while it reads, and fixed afterwards.
        new_tokens = read_provenance(recipe.base_model).new_tokens if kind.head.is_language_modelling else 0
        adapter = replace(adapter, new_tokens=new_tokens)
    return attach(base, adapter, kind, recipe.seed)


def load_adapter(
    directory: Path, device: str = "cpu", base_model: str | None = None
) -> tuple[AdaptedModel, Manifest, dict[str, Any]]:
    """Load the trained model in `directory`, ready to predict, with its manifest and its facts.

    Args:
        base_model: the place of the base model, if it is no longer at the manifest's path. Its files must be the
            ones that the adapter was trained on.

    Raises:
        ModelError: as `read_manifest` and `build`, or the base model or the weights are not those of the adapter.
    """
    recipe, digest, facts = read_manifest(directory)
    recipe = at_base_model(directory, recipe, digest, base_model)
    model = build(recipe, device)
    restore_adapter(model, directory)
    return model, recipe, facts


def restore_adapter(model: AdaptedModel, directory: Path) -> None:
    """Give a model that `build` made the weights in `directory`, and its tokenizer the template of the prompts there.

    Raises:
        ModelError: A file is absent or damaged, or the weights are not those of this model.
    """
    files = adapter_directory(directory)
    try:
        if model.base.head.writes_text and (files / TEMPLATE).is_file():
            model.base.tokenizer.chat_template = (files / TEMPLATE).read_text(encoding="utf-8")
        model.restore(load_file(files / "adapter_model.safetensors"))
    except (OSError, UnicodeDecodeError, SafetensorError):
        raise ModelError(
            f"{directory}: the adapter's weights are absent or damaged: copy the directory again"
        ) from None

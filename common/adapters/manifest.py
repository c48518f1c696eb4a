"""The description of the model that an adapter belongs to, as a value and as the file `fedfin.json` beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.numpy import load_file

from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach
from common.adapters.saving import TEMPLATE
from common.base_models.digest import base_digest
from common.base_models.load import load_base, load_shared_base
from common.base_models.provenance import read_provenance
from common.base_models.resolve import resolve_base
from common.config.adapter import AdapterConfig, AdapterSettings, adapter_from_record, adapter_record
from common.config.training import ModelConfig
from common.errors import ConfigurationError, ModelError
from common.tasks import Head, Task, task

__all__ = [
    "DESCRIPTION",
    "Manifest",
    "adapter_directory",
    "at_base_model",
    "build",
    "load_adapter",
    "read_manifest",
    "restore_adapter",
    "unprotected",
    "write_manifest",
]

DESCRIPTION = "fedfin.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The model that an adapter belongs to, and the meaning of its outputs.

    tasks: name and labels of each task, in the order of the model's outputs. Several tasks share one encoder.
    adapter: method and settings of the adapter.
    seed: of the weights it starts from.
    """

    base_model: str
    pooling: Literal["mean", "native"]
    max_tokens: int
    tasks: Mapping[str, tuple[str, ...]]
    adapter: AdapterSettings
    seed: int

    def to_record(self) -> dict[str, Any]:
        """Return the record that `fedfin.json` holds."""
        model = {"base_model": self.base_model, "pooling": self.pooling, "max_tokens": self.max_tokens}
        tasks = {name: list(labels) for name, labels in self.tasks.items()}
        return model | {"tasks": tasks} | adapter_record(self.adapter) | {"seed": self.seed}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Manifest":
        """Return the manifest of a record.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: The record is damaged.
            ConfigurationError: A setting of the adapter is out of range.
        """
        return cls(
            base_model=record["base_model"],
            pooling=record["pooling"],
            max_tokens=record["max_tokens"],
            tasks={name: tuple(labels) for name, labels in record["tasks"].items()},
            adapter=adapter_from_record(record),
            seed=record["seed"],
        )

    @property
    def kinds(self) -> tuple[Task, ...]:
        """The tasks themselves."""
        return tuple(task(name) for name in self.tasks)

    @property
    def head(self) -> Head:
        """Of a single task."""
        return self.kinds[0].head


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


def write_manifest(recipe: Manifest, digest: str, facts: Mapping[str, Any]) -> bytes:
    """Return the content of `fedfin.json`. `facts` is for readers, and loading needs nothing of it."""
    content = {"version": _VERSION, "base_digest": digest, "recipe": recipe.to_record(), "facts": dict(facts)}
    return (json.dumps(content, indent=2) + "\n").encode()


def read_manifest(directory: Path) -> tuple[Manifest, str, dict[str, Any]]:
    """Recipe, base model's digest, and facts, of the adapter in `directory` (or in its subdirectory `adapter`).

    Raises:
        ModelError: there is none, or it is of another version.
    """
    path = adapter_directory(directory) / DESCRIPTION
    try:
        content = json.loads(path.read_text())
        if content["version"] != _VERSION:
            raise ModelError(f"{path}: of version {content['version']}: this program reads {_VERSION}")
        return Manifest.from_record(content["recipe"]), content["base_digest"], content["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigurationError):
        if not path.exists() and (base := _base_model_in(directory)) is not None:
            raise ModelError(
                f"{directory}: it holds a base model and no adapter for a task, so it labels nothing: fine-tune it "
                f"with finetune --base-model {base}"
            ) from None
        raise ModelError(
            f"{directory}: no adapter of fedfin ({DESCRIPTION} is absent or damaged): give the directory "
            "that finetune wrote"
        ) from None


def _base_model_in(directory: Path) -> Path | None:
    """Return the base model in a directory that `adapt` wrote, or the directory itself if it is one."""
    return next((each for each in (directory / "base", directory) if (each / "config.json").is_file()), None)


def unprotected(facts: Mapping[str, Any]) -> bool:
    """Whether an adapter's facts say that rows went into it without differential privacy, then or before."""
    privacy = facts.get("privacy")
    return privacy is None or bool(privacy.get("unprotected_before", False))


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


def at_base_model(directory: Path, recipe: Manifest, digest: str, base_model: str | None = None) -> Manifest:
    """Return `recipe` with its base model at `base_model`, or at the manifest's own path if that is None.

    Raises:
        ModelError: there is no base model, or its SHA-256 is not `digest`.
    """
    name = base_model or recipe.base_model
    try:
        path = resolve_base(name)
    except ModelError as error:
        if base_model is not None:
            raise
        raise ModelError(f"{error}, or say where it is with --base-model") from None
    if base_digest(path) != digest:
        raise ModelError(
            f"{directory}: the adapter was trained on another copy of {name}: give the one with SHA-256 "
            f"{digest[:16]}... with --base-model"
        )
    return replace(recipe, base_model=name)


def adapter_directory(directory: Path) -> Path:
    """Return `directory` itself, or the adapter in an output directory of `finetune`."""
    inner = directory / "adapter"
    return inner if (inner / DESCRIPTION).is_file() and not (directory / DESCRIPTION).is_file() else directory

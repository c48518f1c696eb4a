"""The description of the model that an adapter belongs to, as a value and as the file `fedfin.json` beside it.

It is read without torch, so that a wrong path is refused at once. `common.adapters.restore` makes the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from common.base_models.digest import base_digest
from common.base_models.resolve import resolve_base
from common.config.adapter import AdapterSettings, adapter_from_record, adapter_record
from common.config.answers import Answers
from common.config.sections import check_value
from common.errors import ConfigurationError, ModelError
from common.tasks import Head, Task, task

__all__ = [
    "DESCRIPTION",
    "Manifest",
    "adapter_directory",
    "at_base_model",
    "base_place",
    "read_manifest",
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
    answers: by kind of instruction, the answers that were declared.
    """

    base_model: str
    pooling: Literal["mean", "native"]
    max_tokens: int
    tasks: Mapping[str, tuple[str, ...]]
    adapter: AdapterSettings
    seed: int
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return the record that `fedfin.json` holds."""
        model = {"base_model": self.base_model, "pooling": self.pooling, "max_tokens": self.max_tokens}
        tasks = {name: list(labels) for name, labels in self.tasks.items()}
        record = model | {"tasks": tasks} | adapter_record(self.adapter) | {"seed": self.seed}
        answers = {kind: list(allowed) for kind, allowed in self.answers.items()}
        return record | ({"answers": answers} if answers else {})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Manifest":
        """Return the manifest of a record.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: The record is damaged.
            ConfigurationError: A setting of the adapter is out of range, or the answers are no lists of texts.
        """
        return cls(
            base_model=record["base_model"],
            pooling=record["pooling"],
            max_tokens=record["max_tokens"],
            tasks={name: tuple(labels) for name, labels in record["tasks"].items()},
            adapter=adapter_from_record(record),
            seed=record["seed"],
            answers=check_value(record.get("answers", {}), Answers, "answers"),
        )

    @property
    def kinds(self) -> tuple[Task, ...]:
        """The tasks themselves."""
        return tuple(task(name) for name in self.tasks)

    @property
    def head(self) -> Head:
        """Of a single task."""
        return self.kinds[0].head


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


def at_base_model(directory: Path, recipe: Manifest, digest: str, base_model: str | None = None) -> Manifest:
    """Return `recipe` with its base model at `base_model`, or at the manifest's own path if that is None.

    Raises:
        ModelError: there is no base model, or its SHA-256 is not `digest`.
    """
    name = base_model or recipe.base_model
    if base_digest(base_place(recipe, base_model)) != digest:
        raise ModelError(
            f"{directory}: the adapter was trained on another copy of {name}: give the one with SHA-256 "
            f"{digest[:16]}... with --base-model"
        )
    return replace(recipe, base_model=name)


def base_place(recipe: Manifest, base_model: str | None) -> str:
    """Return the directory of the base model: at `base_model`, or at the manifest's own path if that is None.

    Raises:
        ModelError: There is no base model.
    """
    try:
        return resolve_base(base_model or recipe.base_model)
    except ModelError as error:
        if base_model is not None:
            raise
        raise ModelError(f"{error}, or say where it is with --base-model") from None


def adapter_directory(directory: Path) -> Path:
    """Return `directory` itself, or the adapter in an output directory of `finetune`."""
    inner = directory / "adapter"
    return inner if (inner / DESCRIPTION).is_file() and not (directory / DESCRIPTION).is_file() else directory

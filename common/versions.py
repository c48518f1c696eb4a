"""Versions of the packages that decide the result of a training."""

import importlib.metadata
import platform

__all__ = ["package_versions"]

_PACKAGES = ("torch", "transformers", "peft", "opacus", "flwr", "dp-accounting", "cryptography", "numpy", "safetensors")


def package_versions() -> dict[str, str]:
    """Return the version of Python, the machine's architecture, and the version of each installed package."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions

"""The package's own source files: the code that an institution reviews and that hub and institutions compare."""

import hashlib
from functools import cache
from pathlib import Path

from common.errors import ConfigurationError

__all__ = ["code_digest", "package_root", "source_files"]

_ROOMS = ("client", "common", "server")


def package_root() -> Path:
    """Return the directory that holds the packages `client`, `common` and `server`."""
    return Path(__file__).resolve().parents[1]


def source_files(root: Path) -> dict[str, Path]:
    """Return the Python files of the three packages below `root`, by their path relative to it, sorted.

    Raises:
        ConfigurationError: a package has no Python file below `root`.
    """
    files: dict[str, Path] = {}
    for room in _ROOMS:
        found = {path.relative_to(root).as_posix(): path for path in (root / room).rglob("*.py")}
        if not found:
            raise ConfigurationError(f"{root}: no source files of the package {room}: install fedfin again")
        files |= dict(sorted(found.items()))
    return files


@cache
def code_digest() -> str:
    """Return the SHA-256, in hex, of the installed source. Computed once per process.

    Raises:
        ConfigurationError: see `source_files`.
    """
    return digest_of(package_root())


def digest_of(root: Path) -> str:
    """Return the SHA-256, in hex, of the source below `root`. Names and contents enter as digests of their own."""
    total = hashlib.sha256()
    for name, path in source_files(root).items():
        total.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()

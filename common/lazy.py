"""Resolve the names of a package when they are first used, so that importing the package loads nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of `package`.

    Args:
        package: Name of the package, for the message of AttributeError.
        places: By public name, "module:attribute", or "module" for a module itself.
    """

    def getattr_(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = place.partition(":")
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded

    return getattr_, lambda: sorted(places)

"""The hub's Flower app and its message exchange.

This room and `server.app` are the only parts of the hub that import Flower. Its names are imported when they are first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.flower.grid import GridTransport
    from server.flower.server_app import execute_run

__all__ = ["GridTransport", "execute_run"]

_MODULES = {"GridTransport": "server.flower.grid", "execute_run": "server.flower.server_app"}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

"""The only port that institutions reach, and the processes of a started hub.

The gateway requires mutual TLS and forwards an allowed set of calls. It knows no run and no model. Its names are
imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.gateway.gateway import Doorkeeper, Gateway, serve
    from server.gateway.services import prepare_services

__all__ = ["Doorkeeper", "Gateway", "prepare_services", "serve"]

_MODULES = {
    "Doorkeeper": "server.gateway.gateway",
    "Gateway": "server.gateway.gateway",
    "prepare_services": "server.gateway.services",
    "serve": "server.gateway.gateway",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

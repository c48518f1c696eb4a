"""The only port that institutions reach, and the processes of a started hub.

The gateway requires mutual TLS and forwards an allowed set of calls. It knows no run and no model. Its names are
imported when they are first used.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from server.gateway.doorkeeper import Doorkeeper
    from server.gateway.gateway import Gateway, serve
    from server.gateway.services import prepare_services

__all__ = ["Doorkeeper", "Gateway", "prepare_services", "serve"]

_PLACES = {
    "Doorkeeper": "server.gateway.doorkeeper:Doorkeeper",
    "Gateway": "server.gateway.gateway:Gateway",
    "prepare_services": "server.gateway.services:prepare_services",
    "serve": "server.gateway.gateway:serve",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

"""The hub's Flower app and its message exchange.

This room and `server.app` are the only parts of the hub that import Flower. Its names are imported when they are first
used.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from server.flower.grid import GridTransport
    from server.flower.server_app import execute_run

__all__ = ["GridTransport", "execute_run"]

_PLACES = {"GridTransport": "server.flower.grid:GridTransport", "execute_run": "server.flower.server_app:execute_run"}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

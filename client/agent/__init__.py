"""Answer the hub: the only process of an institution that holds keys, rows, ledger and model.

`Agent.handle` takes a sealed assignment and returns a sealed answer, and `server` offers it on a Unix socket. The room
has no network. The node (`client.node`) carries the bytes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.agent.agent import Agent, LocalModel
    from client.agent.models import LocalModels
    from client.agent.server import AgentService, serve

__all__ = ["Agent", "AgentService", "LocalModel", "LocalModels", "serve"]

_MODULES = {
    "Agent": "client.agent.agent",
    "AgentService": "client.agent.server",
    "LocalModel": "client.agent.agent",
    "LocalModels": "client.agent.models",
    "serve": "client.agent.server",
}


def __getattr__(name: str) -> Any:
    """Import the name when it is first used. The start-up checks must run before torch is loaded."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

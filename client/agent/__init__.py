"""Answer the hub: the only process of an institution that holds keys, rows, ledger and model.

`Agent.handle` takes a sealed assignment and returns a sealed answer, and `server` offers it on a Unix socket. The room
has no network. The node (`client.node`) carries the bytes.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.agent.agent import Agent, LocalModel
    from client.agent.models import LocalModels
    from client.agent.server import AgentService, serve

__all__ = ["Agent", "AgentService", "LocalModel", "LocalModels", "serve"]

_PLACES = {
    "Agent": "client.agent.agent:Agent",
    "AgentService": "client.agent.server:AgentService",
    "LocalModel": "client.agent.agent:LocalModel",
    "LocalModels": "client.agent.models:LocalModels",
    "serve": "client.agent.server:serve",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

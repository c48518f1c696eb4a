"""The results of a run: the evaluated global model, its saved adapter, and `result.json`.

This room loads models, so its names are imported when they are first used. It knows neither the hub's directory nor
Flower.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.results.artifacts import describe_protection, model_card, result, save_adapter, save_round
    from server.results.evaluation import HubEvaluator

__all__ = ["HubEvaluator", "describe_protection", "model_card", "result", "save_adapter", "save_round"]

_MODULES = {
    "HubEvaluator": "server.results.evaluation",
    "describe_protection": "server.results.artifacts",
    "model_card": "server.results.artifacts",
    "result": "server.results.artifacts",
    "save_adapter": "server.results.artifacts",
    "save_round": "server.results.artifacts",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

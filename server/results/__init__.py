"""The results of a run: the evaluated global model, its saved adapter, and `result.json`.

This room loads models, so its names are imported when they are first used. It knows neither the hub's directory nor
Flower.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from server.results.artifacts import describe_protection, model_card, result, save_adapter, save_round
    from server.results.evaluation import HubEvaluator

__all__ = ["HubEvaluator", "describe_protection", "model_card", "result", "save_adapter", "save_round"]

_PLACES = {
    "HubEvaluator": "server.results.evaluation:HubEvaluator",
    "describe_protection": "server.results.artifacts:describe_protection",
    "model_card": "server.results.artifacts:model_card",
    "result": "server.results.artifacts:result",
    "save_adapter": "server.results.artifacts:save_adapter",
    "save_round": "server.results.artifacts:save_round",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

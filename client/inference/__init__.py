"""Inference: predictions and measurements of a saved adapter, and merging it into its base model.

This room reads adapters and writes merged models. It trains nothing and charges no ledger. Its names are imported when
they are first used, because they load torch.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.inference.merge import merge_adapter
    from client.inference.predictor import Label, Predictor, load_adapter

__all__ = ["Label", "Predictor", "load_adapter", "merge_adapter"]

_PLACES = {
    "Label": "client.inference.predictor:Label",
    "Predictor": "client.inference.predictor:Predictor",
    "load_adapter": "client.inference.predictor:load_adapter",
    "merge_adapter": "client.inference.merge:merge_adapter",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

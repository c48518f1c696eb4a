"""Inference: predictions and measurements of a saved adapter, and merging it into its base model.

This room reads adapters and writes merged models. It trains nothing and charges no ledger. Its names are imported when
they are first used, because they load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.inference.merge import merge_adapter
    from client.inference.predictor import Label, Predictor, load_adapter

__all__ = ["Label", "Predictor", "load_adapter", "merge_adapter"]

_MODULES = {
    "Label": "client.inference.predictor",
    "Predictor": "client.inference.predictor",
    "load_adapter": "client.inference.predictor",
    "merge_adapter": "client.inference.merge",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

"""Adapters: the trained parameters of a base model, their file format, and the cached output of its frozen part.

`adapt` and `adapt_prompt` attach an adapter to a loaded base model. The parameters of an `AdaptedModel` are all that a
training changes and all that a federation exchanges. This room trains nothing on private rows and knows no ledger. Its
names are imported when they are first used, because they load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.adapters.adapted_model import AdaptedModel, adapt
    from common.adapters.feature_cache import FeatureCache
    from common.adapters.losses import batch_losses
    from common.adapters.manifest import Manifest, build, load_adapter, write_manifest
    from common.adapters.soft_prompts import adapt_prompt
    from common.adapters.task_heads import TaskHead

__all__ = [
    "AdaptedModel",
    "FeatureCache",
    "Manifest",
    "TaskHead",
    "adapt",
    "adapt_prompt",
    "batch_losses",
    "build",
    "load_adapter",
    "write_manifest",
]

_MODULES = {
    "AdaptedModel": "common.adapters.adapted_model",
    "FeatureCache": "common.adapters.feature_cache",
    "Manifest": "common.adapters.manifest",
    "TaskHead": "common.adapters.task_heads",
    "adapt": "common.adapters.adapted_model",
    "adapt_prompt": "common.adapters.soft_prompts",
    "batch_losses": "common.adapters.losses",
    "build": "common.adapters.manifest",
    "load_adapter": "common.adapters.manifest",
    "write_manifest": "common.adapters.manifest",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

"""Adapters: the trained parameters of a base model, their file format, and the cached output of its frozen part.

`adapt` and `adapt_prompt` attach an adapter to a loaded base model. The parameters of an `AdaptedModel` are all that a
training changes and all that a federation exchanges. This room trains nothing on private rows and knows no ledger. Its
names are imported when they are first used, because they load torch.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from common.adapters.adapted_model import AdaptedModel, adapt
    from common.adapters.feature_cache import FeatureCache
    from common.adapters.losses import batch_losses
    from common.adapters.manifest import Manifest, write_manifest
    from common.adapters.restore import build, load_adapter
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

_PLACES = {
    "AdaptedModel": "common.adapters.adapted_model:AdaptedModel",
    "FeatureCache": "common.adapters.feature_cache:FeatureCache",
    "Manifest": "common.adapters.manifest:Manifest",
    "TaskHead": "common.adapters.task_heads:TaskHead",
    "adapt": "common.adapters.adapted_model:adapt",
    "adapt_prompt": "common.adapters.soft_prompts:adapt_prompt",
    "batch_losses": "common.adapters.losses:batch_losses",
    "build": "common.adapters.restore:build",
    "load_adapter": "common.adapters.restore:load_adapter",
    "write_manifest": "common.adapters.manifest:write_manifest",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

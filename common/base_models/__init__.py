"""Base models: find, check, load and extend them, before an adapter is attached.

A base model is a directory of transformers' files. Each path that uses one checks it first (`check_base_model`), and
each fault is one line. This room knows neither adapters nor rows, and it changes no weights but those of a copy that
it saves. Its names are imported when they are first used, because most of them load torch.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from common.base_models.check import CheckedBase, check_base_model
    from common.base_models.digest import base_digest
    from common.base_models.load import load_base, load_classifier, load_shared_encoder
    from common.base_models.provenance import Provenance, read_provenance, refuse_private_base
    from common.base_models.resolve import resolve_base

__all__ = [
    "CheckedBase",
    "Provenance",
    "base_digest",
    "check_base_model",
    "load_base",
    "load_classifier",
    "load_shared_encoder",
    "read_provenance",
    "refuse_private_base",
    "resolve_base",
]

_PLACES = {
    "CheckedBase": "common.base_models.check:CheckedBase",
    "Provenance": "common.base_models.provenance:Provenance",
    "base_digest": "common.base_models.digest:base_digest",
    "check_base_model": "common.base_models.check:check_base_model",
    "load_base": "common.base_models.load:load_base",
    "load_classifier": "common.base_models.load:load_classifier",
    "load_shared_encoder": "common.base_models.load:load_shared_encoder",
    "read_provenance": "common.base_models.provenance:read_provenance",
    "refuse_private_base": "common.base_models.provenance:refuse_private_base",
    "resolve_base": "common.base_models.resolve:resolve_base",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

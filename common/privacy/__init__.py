"""Account for privacy: mechanisms to epsilon, a limit to admission, and the ledger that an institution keeps.

Figures come from privacy-loss distributions. Admission to a limited ledger comes from a filter that also holds for runs
that are chosen one after another. The room computes and records. It never draws noise and never sees a row.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.privacy.accounting import DpSgdEvent, PrivacyLimit, calibrate, epsilon
    from common.privacy.filter import filter_epsilon, steps_left
    from common.privacy.ledger import ChargeContext, PrivacyLedger, read_charges

__all__ = [
    "ChargeContext",
    "DpSgdEvent",
    "PrivacyLedger",
    "PrivacyLimit",
    "calibrate",
    "epsilon",
    "filter_epsilon",
    "read_charges",
    "steps_left",
]

_MODULES = {
    "ChargeContext": "common.privacy.ledger",
    "DpSgdEvent": "common.privacy.accounting",
    "PrivacyLedger": "common.privacy.ledger",
    "PrivacyLimit": "common.privacy.accounting",
    "calibrate": "common.privacy.accounting",
    "epsilon": "common.privacy.accounting",
    "filter_epsilon": "common.privacy.filter",
    "read_charges": "common.privacy.ledger",
    "steps_left": "common.privacy.filter",
}


def __getattr__(name: str) -> Any:
    """Import the name when it is first used. Keys and numerical libraries take time to load."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

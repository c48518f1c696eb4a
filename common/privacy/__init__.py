"""Account for privacy: mechanisms to epsilon, a limit to admission, and the ledger that an institution keeps.

Figures come from privacy-loss distributions. Admission to a limited ledger comes from a filter that also holds for runs
that are chosen one after another. The room computes and records. It never draws noise and never sees a row.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from common.privacy.accounting import DpSgdEvent, PrivacyLimit, calibrate, epsilon
    from common.privacy.charges import ChargeContext, read_charges
    from common.privacy.filter import filter_epsilon, steps_left
    from common.privacy.ledger import PrivacyLedger

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

_PLACES = {
    "ChargeContext": "common.privacy.charges:ChargeContext",
    "DpSgdEvent": "common.privacy.accounting:DpSgdEvent",
    "PrivacyLedger": "common.privacy.ledger:PrivacyLedger",
    "PrivacyLimit": "common.privacy.accounting:PrivacyLimit",
    "calibrate": "common.privacy.accounting:calibrate",
    "epsilon": "common.privacy.accounting:epsilon",
    "filter_epsilon": "common.privacy.filter:filter_epsilon",
    "read_charges": "common.privacy.charges:read_charges",
    "steps_left": "common.privacy.filter:steps_left",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

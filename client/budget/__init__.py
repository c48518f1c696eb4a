"""Read an institution's privacy budget: its ledger as tables, privacy statements and a second opinion.

The room only reads. Charges are made by `client.institution.limits`.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.budget.overview import overview
    from client.budget.prv import epsilon_prv
    from client.budget.verified_ledger import RunStatement, VerifiedLedger, read_ledger, verify_ledger

__all__ = ["RunStatement", "VerifiedLedger", "epsilon_prv", "overview", "read_ledger", "verify_ledger"]

_PLACES = {
    "RunStatement": "client.budget.verified_ledger:RunStatement",
    "VerifiedLedger": "client.budget.verified_ledger:VerifiedLedger",
    "epsilon_prv": "client.budget.prv:epsilon_prv",
    "overview": "client.budget.overview:overview",
    "read_ledger": "client.budget.verified_ledger:read_ledger",
    "verify_ledger": "client.budget.verified_ledger:verify_ledger",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

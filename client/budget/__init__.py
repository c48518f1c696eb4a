"""Read an institution's privacy budget: its ledger as tables, privacy statements and a second opinion.

The room only reads. Charges are made by `client.institution.limits`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.budget.prv import epsilon_prv
    from client.budget.summary import RunStatement, VerifiedLedger, overview, read_ledger, verify_ledger

__all__ = ["RunStatement", "VerifiedLedger", "epsilon_prv", "overview", "read_ledger", "verify_ledger"]

_MODULES = {
    "RunStatement": "client.budget.summary",
    "VerifiedLedger": "client.budget.summary",
    "epsilon_prv": "client.budget.prv",
    "overview": "client.budget.summary",
    "read_ledger": "client.budget.summary",
    "verify_ledger": "client.budget.summary",
}


def __getattr__(name: str) -> Any:
    """Import the name when it is first used. Keys and numerical libraries take time to load."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

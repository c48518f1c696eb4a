"""Take part in one round of a federated run: plan the training, charge the ledger, train, and forecast the cost.

A round starts from the run's configuration and the institution's own settings. Nothing here opens a message or a socket
(see `client.agent`), and fine-tuning alone (`client.finetune`) is never imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.federation.forecast import Forecast
    from client.federation.local_round import FederatedJob, PreparedData, plan_training, run
    from client.federation.planning import event_of_round, read_for_run, select_rows

__all__ = [
    "FederatedJob",
    "Forecast",
    "PreparedData",
    "event_of_round",
    "plan_training",
    "read_for_run",
    "run",
    "select_rows",
]

_MODULES = {
    "FederatedJob": "client.federation.local_round",
    "Forecast": "client.federation.forecast",
    "PreparedData": "client.federation.local_round",
    "event_of_round": "client.federation.planning",
    "plan_training": "client.federation.local_round",
    "read_for_run": "client.federation.planning",
    "run": "client.federation.local_round",
    "select_rows": "client.federation.planning",
}


def __getattr__(name: str) -> Any:
    """Import the name when it is first used. A forecast needs no torch, which a round loads."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

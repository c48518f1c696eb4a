"""Take part in one round of a federated run: plan the training, charge the ledger, train, and forecast the cost.

A round starts from the run's configuration and the institution's own settings. Nothing here opens a message or a socket
(see `client.agent`), and fine-tuning alone (`client.finetune`) is never imported.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

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

_PLACES = {
    "FederatedJob": "client.federation.local_round:FederatedJob",
    "Forecast": "client.federation.forecast:Forecast",
    "PreparedData": "client.federation.local_round:PreparedData",
    "event_of_round": "client.federation.planning:event_of_round",
    "plan_training": "client.federation.local_round:plan_training",
    "read_for_run": "client.federation.planning:read_for_run",
    "run": "client.federation.local_round:run",
    "select_rows": "client.federation.planning:select_rows",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

"""The rounds of a run: sample institutions, admit their replies, combine the contributions, save a checkpoint.

This room is a pure function of saved state and replies. It knows neither the hub's directory nor Flower nor models.
"""

from server.rounds.admission import Failure
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Evaluation, Transport, run

__all__ = ["Evaluation", "Failure", "FederationContext", "RunState", "Transport", "run"]

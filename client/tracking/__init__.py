"""The record of a training: its course, its use of the machine, recommendations for the next one, and a report.

The room observes trainings and reads their records. It never trains, and nothing of it leaves the institution.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.tracking.history import History
    from client.tracking.tracker import Tracker

__all__ = ["History", "Tracker"]

_PLACES = {"History": "client.tracking.history:History", "Tracker": "client.tracking.tracker:Tracker"}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

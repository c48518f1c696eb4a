"""The record of a training: its course, its use of the machine, recommendations for the next one, and a report.

The room observes trainings and reads their records. It never trains, and nothing of it leaves the institution.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.tracking.history import History
    from client.tracking.tracker import Tracker

__all__ = ["History", "Tracker"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: both modules load torch."""
    if name == "Tracker":
        from client.tracking.tracker import Tracker

        return Tracker
    if name == "History":
        from client.tracking.history import History

        return History
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

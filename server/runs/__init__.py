"""The directories of runs: create, submit, follow and describe them, and resubmit a run whose process died.

This room reads and writes files and talks to the SuperLink. It loads no model and executes no round.
"""

from server.runs.records import RunEnding
from server.runs.run import Run

__all__ = ["Run", "RunEnding"]

"""The environment variables of Flower's processes, in one place. Importing this does not import Flower."""

import os
import sys
from pathlib import Path

__all__ = ["QUIET", "flower_environment"]

QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""Keeps Flower from reporting its use and from looking for new releases."""
_POLL_S = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"


def flower_environment(home: Path, poll_s: float) -> dict[str, str]:
    """Return the variables of a SuperLink, SuperNode or SuperExec.

    Args:
        home: Directory in which Flower keeps its files (`FLWR_HOME`).
        poll_s: Seconds between two looks of a SuperExec for work, unless this process's environment gives another
            number.
    """
    return {
        # Flower finds its own programs by PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        _POLL_S: os.environ.get(_POLL_S, str(poll_s)),
        **QUIET,
    }

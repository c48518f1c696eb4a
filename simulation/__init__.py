"""A whole federation on one machine, with the agents, ledgers, envelopes and round loop of a deployed one.

The simulation may use the rooms of hub and institution, and neither of them may use it. Its names are imported when
they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.config import SimulationConfig, load_simulation
    from simulation.in_memory import simulate
    from simulation.in_process import RoundObserver
    from simulation.partition import Federation
    from simulation.result import SimulationResult
    from simulation.runner import run_simulation
    from simulation.workspace import Workspace

__all__ = [
    "Federation",
    "RoundObserver",
    "SimulationConfig",
    "SimulationResult",
    "Workspace",
    "load_simulation",
    "run_simulation",
    "simulate",
]

_MODULES = {
    "Federation": "simulation.partition",
    "RoundObserver": "simulation.in_process",
    "SimulationConfig": "simulation.config",
    "SimulationResult": "simulation.result",
    "Workspace": "simulation.workspace",
    "load_simulation": "simulation.config",
    "run_simulation": "simulation.runner",
    "simulate": "simulation.in_memory",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

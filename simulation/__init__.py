"""A whole federation on one machine, with the agents, ledgers, envelopes and round loop of a deployed one.

The simulation may use the rooms of hub and institution, and neither of them may use it. Its names are imported when
they are first used.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from simulation.config import SimulationConfig, load_simulation
    from simulation.in_memory import simulate
    from simulation.partition import Federation
    from simulation.result import SimulationResult
    from simulation.runner import run_simulation
    from simulation.workspace import Workspace

__all__ = [
    "Federation",
    "SimulationConfig",
    "SimulationResult",
    "Workspace",
    "load_simulation",
    "run_simulation",
    "simulate",
]

_PLACES = {
    "Federation": "simulation.partition:Federation",
    "SimulationConfig": "simulation.config:SimulationConfig",
    "SimulationResult": "simulation.result:SimulationResult",
    "Workspace": "simulation.workspace:Workspace",
    "load_simulation": "simulation.config:load_simulation",
    "run_simulation": "simulation.runner:run_simulation",
    "simulate": "simulation.in_memory:simulate",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

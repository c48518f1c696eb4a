"""Hold an institution's directory: its configuration, limits, keys, ledger and enrolment.

Everything that only the institution decides is read here, and `limits` enforces the privacy officer's part of it for
every training. The room knows no model, no row and no round. `paths` alone opens nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.institution.config import InstitutionConfig, load_institution_config
    from client.institution.directory import InstitutionDirectory
    from client.institution.limits import ProposedTraining, charge_training, check_limits
    from client.institution.paths import InstitutionPaths

__all__ = [
    "InstitutionConfig",
    "InstitutionDirectory",
    "InstitutionPaths",
    "ProposedTraining",
    "charge_training",
    "check_limits",
    "load_institution_config",
]

_MODULES = {
    "InstitutionConfig": "client.institution.config",
    "InstitutionDirectory": "client.institution.directory",
    "InstitutionPaths": "client.institution.paths",
    "ProposedTraining": "client.institution.limits",
    "charge_training": "client.institution.limits",
    "check_limits": "client.institution.limits",
    "load_institution_config": "client.institution.config",
}


def __getattr__(name: str) -> Any:
    """Import the name when it is first used. The node imports `paths`, which must load nothing else."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

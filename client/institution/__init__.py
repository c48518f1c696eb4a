"""Hold an institution's directory: its configuration, limits, keys, ledger and enrolment.

Everything that only the institution decides is read here, and `limits` enforces the privacy officer's part of it for
every training. The room knows no model, no row and no round. `paths` alone opens nothing.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

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

_PLACES = {
    "InstitutionConfig": "client.institution.config:InstitutionConfig",
    "InstitutionDirectory": "client.institution.directory:InstitutionDirectory",
    "InstitutionPaths": "client.institution.paths:InstitutionPaths",
    "ProposedTraining": "client.institution.limits:ProposedTraining",
    "charge_training": "client.institution.limits:charge_training",
    "check_limits": "client.institution.limits:check_limits",
    "load_institution_config": "client.institution.config:load_institution_config",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)

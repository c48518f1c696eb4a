"""What each institution may say about the privacy of a run, in numbers that its own ledger gives."""

import importlib.metadata
from typing import Any

from client.prv import epsilon_prv
from common.accounting import epsilon
from common.envelope import Keys
from common.files import write_json
from common.ledger import read_charges
from simulation.workspace import Workspace

__all__ = ["write_statements"]

COVERS = [
    "every adapter sent to the hub in this run, and everything computed from them",
    "trainings that were charged and never finished (a crash, a retry)",
]
DOES_NOT_COVER = [
    "the choice of hyperparameters, where it was made on private rows",
    "the declared size band, which is a decision of the privacy officer and not computed from the rows",
    "the hub's test set, which is taken to be public",
    "the hub's choice of institutions: it sees whom it asks, so no amplification is claimed from it",
    "what is learned from other sources, and side channels such as the time a training takes",
]

UNIT_LIMITS = {
    "record": "several records of one person: the unit is one record, not one customer",
    "customer": "one person under several customer ids, or at several institutions: the unit is one id at one of them",
}


def write_statements(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Write `institutions/<name>/statement.json` for each, and return them by name."""
    statements: dict[str, dict[str, Any]] = {}
    for name in sorted(workspace.federation.train):
        statements[name] = statement(workspace, name)
        write_json(workspace.out / "institutions" / name / "statement.json", statements[name])
    return statements


def statement(workspace: Workspace, name: str) -> dict[str, Any]:
    """One institution's statement; epsilon is null where the run had no privacy."""
    directory = workspace.out / "institutions" / name
    privacy = workspace.config.privacy
    facts: dict[str, Any] = {
        "institution": name,
        "records_unit": privacy.unit,
        "adjacency": "add-or-remove-one",
        "noise_source": "operating system" if workspace.settings(name).noise == "system" else "fixed seed: NOT PRIVATE",
        "covers": COVERS,
        "does_not_cover": [*DOES_NOT_COVER, UNIT_LIMITS[privacy.unit]],
    }
    if privacy.level == "none" or privacy.delta is None:
        return facts | {"epsilon_run": None, "epsilon_cumulative": None, "sampler": "shuffled", "covers": []}
    path = directory / "ledger.jsonl"
    charges = read_charges(path, Keys.load(directory / "keys").public) if path.exists() else ()
    everything = [charge.event for charge in charges]
    here = [charge.event for charge in charges if charge.reservation.use.run_id == workspace.run_id]
    return facts | {
        "sampler": "Poisson",
        "noise_multiplier": here[-1].noise_multiplier if here else None,
        "clipping_norm": privacy.clipping_norm,
        "sampling_probability": here[-1].sampling_probability if here else None,
        "steps": sum(event.steps for event in here),
        "delta": privacy.delta,
        "epsilon_run": epsilon(here, privacy.delta),
        "epsilon_cumulative": epsilon(everything, privacy.delta),
        "epsilon_prv": epsilon_prv(here, privacy.delta),
        "max_epsilon": workspace.settings(name).max_epsilon,
        "accountant": f"PLD, dp-accounting {importlib.metadata.version('dp-accounting')}",
        "ledger_entries": len(charges),
    }

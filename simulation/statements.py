"""What each simulated institution may say about the privacy of a run: the statement that a deployed one would make."""

from typing import Any

from client.budget.statement import statement
from client.institution.directory import InstitutionDirectory
from common.files import write_json
from common.privacy.ledger import read_charges
from simulation.workspace import Workspace

__all__ = ["write_statements"]


def write_statements(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Write `institutions/<name>/statement.json` for each, and return them by name."""
    statements: dict[str, dict[str, Any]] = {}
    for name in sorted(workspace.federation.train):
        home = InstitutionDirectory(workspace.out / "institutions" / name)
        charges = read_charges(home.ledger_path, home.keys().public)
        made = statement(charges, name, workspace.run_id, workspace.settings(name).limits.budget, prv=True)
        statements[name] = made
        write_json(home.directory / "statement.json", made)
    return statements

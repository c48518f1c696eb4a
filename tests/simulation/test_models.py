"""Institutions share one model, unless each has a head for labels of its own."""

from pathlib import Path

import pytest

from simulation.models import Models
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation

HEAD = '[personalisation]\nmethod = "head"'


def models(directory: Path, extra: str, only_profits: str = "") -> Models:
    """Return the models of a run. The rows of institution `only_profits` have one label alone."""
    config = write_simulation(directory, extra=extra)
    rows = (directory / "rows.csv").read_text().splitlines()
    kept = [row for row in rows if f",{only_profits}," not in row or ",positive," in row]
    (directory / "rows.csv").write_text("\n".join(kept) + "\n")
    return Workspace.create(config, directory / "out").models


@pytest.mark.filterwarnings("ignore")
def test_one_model_serves_all_institutions_with_the_same_labels(tmp_path: Path) -> None:
    found = models(tmp_path, HEAD, only_profits="west")
    assert found.labels("west") == ("positive",)
    assert found.of("north") is found.of("south") is found.adapted
    assert found.of("west") is not found.adapted
    assert found.of("west") is found.of("west")


def test_without_own_heads_the_labels_are_those_of_the_run(tmp_path: Path) -> None:
    found = models(tmp_path, "", only_profits="west")
    assert found.labels("west") == ("negative", "positive")
    assert found.of("west") is found.adapted

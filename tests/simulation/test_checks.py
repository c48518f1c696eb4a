"""A wrong run is refused before a model library is imported: in a second, and not in ten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.checks import institution_settings
from simulation.config import load_simulation
from simulation.loading import federation_of
from tests.simulation.helpers import write_simulation

WRONG = {
    "run.rounds is -1": ("run.rounds=-1",),
    'column "nosuch" is missing': ("data.institution_column=nosuch",),
    "aggregation.quorum is 5, but 3 institutions take part": ("aggregation.quorum=5",),
    "draws less than one record": ("training.sampling_rate=0.0001",),
    "base model ./nosuch: no such directory": ("model.base=./nosuch",),
}
COUNT = """
import json, sys
from simulation.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "opacus", "transformers", "peft", "flwr", "ray", "scipy.stats"} & set(sys.modules)
print(json.dumps([code, sorted(heavy)]))
"""


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_run_is_refused_without_a_model_library(tmp_path: Path, words: str) -> None:
    source = write_simulation(tmp_path)
    changes = [part for change in WRONG[words] for part in ("--set", change)]
    command = [sys.executable, "-c", COUNT, "run", str(source), "--out", str(tmp_path / "out"), *changes]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [2, []]
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_both_limits_of_the_configuration_are_those_of_every_simulated_officer(tmp_path: Path) -> None:
    simulation = load_simulation(write_simulation(tmp_path, max_epsilon=3.0, extra="max_epsilon_alone = 7.0\n"))
    federation = federation_of(simulation)
    for name in federation.train:
        limits = institution_settings(simulation, federation, name).limits
        assert (limits.max_epsilon, limits.max_epsilon_alone, limits.delta) == (3.0, 7.0, 1e-4)

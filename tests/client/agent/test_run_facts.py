"""The record that an institution keeps of a run names the figure without others if the run counts their noise."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.agent.run_facts import run_facts
from client.federation.local_round import RoundAnswer
from common.protocol.messages import PrivacyStatement
from simulation.config import load_simulation
from tests.simulation.helpers import write_simulation

STATEMENT = PrivacyStatement(
    noise_multiplier=1.0, clipping_norm=1.0, steps=1, delta=1e-4, epsilon=1.0, sampling_probability=0.5
)
SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"


@pytest.mark.parametrize(("extra", "more"), [("", {}), (SECURE, {"honest": 2, "epsilon_alone": 3.0})])
def test_both_figures_of_secure_aggregation_are_kept(tmp_path: Path, extra: str, more: dict[str, float]) -> None:
    config = load_simulation(write_simulation(tmp_path, local_steps=1, extra=extra)).run
    model: Any = SimpleNamespace(parameters_trained=3, parameters_total=7)
    facts = run_facts("run", config, model, RoundAnswer(STATEMENT, 1.0, 3.0))
    assert facts["privacy"] == asdict(STATEMENT) | more
    assert run_facts("run", config, model, RoundAnswer(None, 1.0))["privacy"] is None

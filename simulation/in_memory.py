"""Simulate a federation whose institutions hold data sets in memory, with the agents of a deployed federation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import tomli_w

from common.config.run import RunConfig
from common.data.datasets import Dataset, merge, validate
from common.errors import ConfigurationError, DataError
from common.events import Observer
from simulation.config import InstitutionsConfig, SimulationConfig
from simulation.partition import HUB, Federation, leave_test_rows_out, split_test
from simulation.result import SimulationResult
from simulation.runner import run_simulation
from simulation.workspace import Workspace

__all__ = ["simulate"]

TEST_FRACTION = 0.2
"""Share of each institution's rows that is held out if no test rows are given."""


def simulate(
    config: RunConfig,
    institutions: Mapping[str, Dataset],
    test: Dataset | None = None,
    out: Path | str | None = None,
    *,
    max_epsilon: float | None = None,
    noise: Literal["system", "fixed"] = "system",
    baselines: bool = False,
    observers: Sequence[Observer] = (),
) -> SimulationResult:
    """Train one adapter on the rows of all institutions, as a deployed federation would, and evaluate it.

    Every institution has keys, a ledger and an agent of its own in this process. The same call with the same `out`
    continues a run that was interrupted.

    Args:
        config: The run. Labels that it leaves out are those of the rows.
        institutions: Training rows by name of the institution. All data sets have the same labels in the same order.
        test: Rows of the hub. If None, a fifth of each institution's rows is held out and evaluated by institution.
        out: Directory of the run. If None, `runs/` and the name of the run.
        max_epsilon: Limit of each institution's ledger, at the run's delta. If None, there is no limit.
        noise: "fixed" repeats itself for tests, and protects nobody.
        baselines: Whether to compare with each institution alone, a bag of words and a majority guess.
        observers: Called during the run.

    Raises:
        ConfigurationError, DataError, ModelError: One line that names the wrong input. Nothing was written.
        CheckpointError: `out` holds another run.
        QuorumError: Too few institutions contributed to a round. The rounds before it are saved.
    """
    if not isinstance(config, RunConfig):
        raise ConfigurationError(
            f"simulate: config is a {type(config).__name__}: make it with RunConfig.read or RunConfig.from_tables"
        )
    federation = _federation(institutions, test, config)
    decided = InstitutionsConfig(max_epsilon=max_epsilon, noise=noise)
    simulation = SimulationConfig(config, None, decided, None, tomli_w.dumps(config.to_tables()))
    workspace = Workspace.over(simulation, federation, Path("runs", config.name) if out is None else Path(out))
    run_simulation(workspace, baselines=baselines, observers=observers)
    return SimulationResult.read(workspace.out)


def _federation(institutions: Mapping[str, Dataset], test: Dataset | None, config: RunConfig) -> Federation:
    """Check the data sets, and hold test rows out if there are none."""
    if not isinstance(institutions, Mapping) or not institutions:
        raise DataError("institutions: give the training rows of at least one institution, by its name")
    named = dict(sorted(institutions.items()))
    for name, rows in [*named.items(), *([("test", test)] if test is not None else [])]:
        if not isinstance(rows, Dataset):
            raise DataError(f"{name}: it is a {type(rows).__name__}: give a Dataset")
    for name in named:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,47}", name):
            raise ConfigurationError(
                f"institutions: a name is {str(name)[:48]!r}: use at most 48 letters, digits, and . _ -"
            )
    labels = (test or next(iter(named.values()))).labels
    if config.labels and labels and set(labels) - set(config.labels):
        raise DataError(f"task.labels: the rows have other labels ({', '.join(labels)}): use the same in both")
    for name, rows in named.items():
        if rows.labels != labels:
            raise DataError(f"{name}: its labels differ from the others', or are in another order: read all alike")
    if test is not None:
        parts, by_institution = {name: replace(rows, name=name) for name, rows in named.items()}, {HUB: test}
    else:
        sides = {name: split_test(rows, TEST_FRACTION, config.seed, name) for name, rows in named.items()}
        parts = {name: train for name, (train, _) in sides.items()}
        by_institution = {name: held_out for name, (_, held_out) in sides.items() if len(held_out)}
    for name, rows in parts.items():
        if not len(rows):
            raise DataError(f"{name}: it has too few rows: give more, or leave it out")
    if not by_institution or not all(len(rows) for rows in by_institution.values()):
        raise DataError("test: there are no test rows: give some, or more training rows to hold some out from")
    validate(merge(list(parts.values()), "all institutions"))
    return leave_test_rows_out(Federation(parts, merge(list(by_institution.values()), "test"), by_institution))

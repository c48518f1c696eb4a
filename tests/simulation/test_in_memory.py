"""A federation of data sets in memory is the federation of files: same run, same checks, typed result."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.budget.verified_ledger import read_ledger
from client.inference.predictor import load_adapter
from common.config.run import RunConfig
from common.data.datasets import Dataset
from common.errors import CheckpointError, ConfigurationError, DataError, FedfinError
from common.events import Observer
from simulation.in_memory import simulate
from simulation.partition import Federation
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation
from tests.tiny_models import save_tiny_model

WORDS = {"negative": ("loss", "falls", "weak"), "positive": ("profit", "rises", "strong")}


def rows(bank: str, number: int = 40) -> Dataset:
    labels = ["negative", "positive"] * (number // 2)
    texts = [
        f"{bank} {WORDS[label][place % 3]} {WORDS[label][place % 2]} {place}" for place, label in enumerate(labels)
    ]
    return Dataset.of(texts, labels, name=bank)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    save_tiny_model(tmp_path / "base")
    return RunConfig.from_tables(
        {
            "run": {"name": "notebook", "seed": 3, "rounds": 2},
            "task": {"name": "sentiment_analysis"},
            "model": {"base": str(tmp_path / "base"), "max_tokens": 32},
            "adapter": {"rank": 4, "target_modules": "all-linear", "layers": "last:1"},
            "training": {"local_steps": 2, "sampling_rate": 0.25, "learning_rate": 1.0},
            "privacy": {"mode": "target", "target_epsilon": 8.0, "delta": 1e-4, "clipping_norm": 0.5},
        }
    )


def test_data_sets_in_memory_train_one_adapter_and_the_result_is_typed(config: RunConfig, tmp_path: Path) -> None:
    result = simulate(config, {"bank-b": rows("b"), "bank-a": rows("a")}, out=tmp_path / "run", baselines=True)
    assert (result.task, result.labels, result.unit) == ("sentiment_analysis", ("negative", "positive"), "record")
    assert set(result.epsilon) == {"bank-a", "bank-b"}
    assert all(value is not None and 0 < value <= 8.0 for value in result.epsilon.values())
    assert [record.round for record in result.rounds] == [1, 2]
    assert result.rounds[-1].contributed == ("bank-a", "bank-b")
    for metrics in (result.metrics, result.metrics_before, *result.metrics_by_institution.values()):
        assert metrics.accuracy is not None
        assert 0.0 <= metrics.accuracy <= 1.0
    assert set(result.metrics_by_institution) == {"bank-a", "bank-b"}
    assert {row.name for row in result.baselines} >= {"majority guess", "bank-a alone", "bank-b alone"}
    assert result.report.is_file()
    assert set(load_adapter(result.out).predict(["profit rises", "loss falls"])) <= set(result.labels)
    ledger = read_ledger(result.out / "institutions" / "bank-a")
    assert ledger.epsilon() == result.epsilon["bank-a"]


def test_the_same_rows_from_a_file_and_from_memory_end_in_the_same_adapter(tmp_path: Path) -> None:
    file = write_simulation(tmp_path, noise="fixed")
    workspace = Workspace.create(file, tmp_path / "file")
    federation: Federation = workspace.federation
    expected = run_simulation(workspace)
    config = replace(workspace.simulation.run, labels=())
    found = simulate(config, federation.train, federation.test, tmp_path / "memory", noise="fixed")
    assert json.loads((found.out / "result.json").read_text())["adapter_digest"] == expected.adapter_digest
    assert found.metrics.to_json() == dict(expected.metrics)
    assert found.noise == "fixed"


class Cut(Observer):
    """Stops the run when round 1 has ended."""

    def on_round(self, record: Any) -> None:
        raise KeyboardInterrupt


def test_the_same_call_continues_a_run_that_was_cut(config: RunConfig, tmp_path: Path) -> None:
    banks = {"a": rows("a"), "b": rows("b")}
    whole = simulate(config, banks, out=tmp_path / "whole", noise="fixed")
    with pytest.raises(KeyboardInterrupt):
        simulate(config, banks, out=tmp_path / "cut", noise="fixed", observers=(Cut(),))
    again = simulate(config, banks, out=tmp_path / "cut", noise="fixed")
    assert [record.adapter_digest for record in again.rounds] == [record.adapter_digest for record in whole.rounds]
    assert simulate(config, banks, out=tmp_path / "cut", noise="fixed") == again


def test_other_rows_or_settings_are_refused_in_the_directory_of_a_run(config: RunConfig, tmp_path: Path) -> None:
    banks = {"a": rows("a"), "b": rows("b")}
    simulate(config, banks, out=tmp_path / "run")
    for changed, given in ((config, {"a": rows("a"), "b": rows("c")}), (replace(config, rounds=3), banks)):
        with pytest.raises(CheckpointError, match="holds another run"):
            simulate(changed, given, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"call fedfin\.simulate with them again"):
        Workspace.reopen(tmp_path / "run")


OTHERS = Dataset.of(["profit", "loss"], ["up", "down"])


@pytest.mark.parametrize(
    ("banks", "test", "error", "message"),
    [
        ({}, None, DataError, "give the training rows of at least one institution"),
        ({"a": [("profit", "positive")]}, None, DataError, "a: it is a list: give a Dataset"),
        ({"../a": rows("a")}, None, ConfigurationError, "institutions: a name is '../a'"),
        ({"a": rows("a"), "b": OTHERS}, None, DataError, "b: its labels differ"),
        ({"a": OTHERS}, None, DataError, "task.labels: the rows have other labels (down, up)"),
        ({"a": rows("a")}, [], DataError, "test: it is a list: give a Dataset"),
        ({"a": rows("a"), "b": rows("b")}, replace(rows("t"), examples=()), DataError, "there are no test rows"),
        ({"a": rows("a"), "b": replace(rows("b"), examples=())}, rows("t"), DataError, "b: it has too few rows"),
    ],
)
def test_bad_rows_are_one_line_before_anything_is_written(
    config: RunConfig, tmp_path: Path, banks: Any, test: Any, error: type[FedfinError], message: str
) -> None:
    with pytest.raises(error) as caught:
        simulate(config, banks, test, tmp_path / "run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_bad_run_is_one_line_before_anything_is_written(config: RunConfig, tmp_path: Path) -> None:
    banks = {"a": rows("a"), "b": rows("b")}
    with pytest.raises(ConfigurationError, match="config is a dict: make it with"):
        simulate({"run": {}}, banks, out=tmp_path / "run")
    most = replace(config, aggregation=replace(config.aggregation, quorum=3))
    with pytest.raises(ConfigurationError, match=r"aggregation\.quorum is 3, but 2 institutions take part"):
        simulate(most, banks, out=tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"institutions\.noise is \"loud\""):
        simulate(config, banks, out=tmp_path / "run", noise="loud")
    assert not (tmp_path / "run").exists()


def test_a_run_from_python_can_be_read_as_a_file(config: RunConfig) -> None:
    assert RunConfig.from_tables(config.to_tables()) == config

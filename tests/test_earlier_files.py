"""Adapters, results, ledgers and run directories of an earlier version are read, or refused in one clear line."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import fedfin
from client.finetune.result import FineTuningResult
from common.errors import CheckpointError, ConfigurationError
from server.report.report import write_report
from simulation.result import SimulationResult

EARLIER = Path(__file__).parent / "earlier"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, as the working directory: the adapters name their base model by a relative path."""
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["alone", "federated"])
def test_an_adapter_answers_as_it_did(name: str) -> None:
    model = fedfin.load_adapter(name)
    answers = model.classify([row["text"] for row in table("test.csv")])
    for answer, row in zip(answers, table(f"{name}.csv"), strict=True):
        assert answer.label == row["label"]
        for label, probability in answer.probabilities.items():
            assert probability == pytest.approx(float(row[f"p_{label}"]), abs=2e-6)


def test_an_adapter_measures_as_it_did() -> None:
    model, result = fedfin.load_adapter("private"), json.loads(Path("private/result.json").read_text())
    rows = fedfin.read_labelled("test.csv", "sentiment_analysis", labels=model.labels)
    assert model.evaluate(rows).to_json() == pytest.approx(result["metrics"])


def test_a_result_is_read_with_its_guarantee() -> None:
    result = FineTuningResult.from_json(json.loads(Path("private/result.json").read_text()))
    assert result.privacy is not None
    assert 0 < result.privacy.epsilon <= 8.0
    assert result.metrics.accuracy == 0.2
    assert result.training.steps == result.privacy.steps


@pytest.mark.parametrize("directory", ["private", "federated/institutions/north"])
def test_a_ledger_verifies_and_costs_the_same(directory: str) -> None:
    ledger = fedfin.read_ledger(directory)
    assert ledger.unit == "record"
    [run] = ledger.runs
    record = json.loads(Path("private/result.json").read_text())["privacy"]
    stated = json.loads(Path("federated/institutions/north/statement.json").read_text())
    expected = record["epsilon"] if directory == "private" else stated["epsilon_run"]
    # The last bits of a Fourier transform follow from the processor.
    assert run.epsilon == pytest.approx(expected, rel=1e-9)


def test_a_finished_run_is_read_and_reported() -> None:
    result = SimulationResult.read("federated")
    assert (result.task, len(result.rounds), set(result.epsilon)) == ("sentiment_analysis", 1, {"north", "south"})
    assert result.metrics.accuracy == pytest.approx(result.rounds[-1].metrics["accuracy"])
    assert "earlier" in write_report(Path("federated")).read_text()


def test_a_run_file_with_the_old_option_names_is_refused_with_the_new_name() -> None:
    with pytest.raises(ConfigurationError, match=r"privacy\.level is not a known key: use mode,"):
        fedfin.RunConfig.read("federated/config.toml")


def test_training_again_in_a_directory_whose_keys_are_gone_is_refused_in_a_line() -> None:
    rows = fedfin.read_labelled("train.csv", "sentiment_analysis")
    test = fedfin.read_labelled("test.csv", "sentiment_analysis", labels=rows.labels)
    data = fedfin.TaskData("sentiment_analysis", rows, test)
    with pytest.raises(CheckpointError, match="it holds another training"):
        fedfin.finetune(fedfin.FineTuningJob(data=(data,), out=Path("alone"), base_model="base"))

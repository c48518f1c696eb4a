"""Several tasks in one federation: an institution trains those that it has rows of, and every row its own task."""

import csv
import json
from pathlib import Path

import pytest
import torch

from client.inference.predictor import Predictor
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.losses import batch_losses
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError
from common.evaluation.evaluate import evaluate
from common.tasks import task
from simulation.cli import main
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import WORDS, write_simulation
from tests.tiny_models import save_tiny_model, shaken

SENTIMENT, RISK = "sentiment_analysis", "risk_classification"
LABELS = (f"{RISK}/high", f"{RISK}/low", f"{SENTIMENT}/negative", f"{SENTIMENT}/positive")
OWN = {"north": (SENTIMENT,), "south": (RISK,), "west": (SENTIMENT, RISK)}


def write_several(directory: Path) -> Path:
    """The small simulation with two tasks, of which north and south have one each."""
    path = write_simulation(directory)
    rows = list(csv.DictReader((directory / "rows.csv").read_text().splitlines()))
    names = {SENTIMENT: {}, RISK: {"negative": "high", "positive": "low"}}
    with (directory / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows):
            own = OWN[row["bank"]]
            which = own[number % len(own)]
            writer.writerow(row | {"label": f"{which}/{names[which].get(row['label'], row['label'])}"})
    text = path.read_text().replace(f'"{SENTIMENT}"', '"multi_task"')
    path.write_text(text.replace('labels = ["negative", "positive"]\n', ""))
    return path


def model(tmp_path: Path) -> AdaptedModel:
    save_tiny_model(tmp_path / "base")
    kind = task("multi_task")
    base = load_base(ModelConfig(base=str(tmp_path / "base"), max_tokens=16), kind, LABELS)
    return shaken(
        adapt(
            base,
            AdapterConfig(rank=2, alpha=4, dropout=0, trained_factors="B", target_modules="task", layers="all"),
            kind,
            seed=0,
        )
    )


def test_a_row_is_a_matter_of_its_own_task_alone(tmp_path: Path) -> None:
    adapted = model(tmp_path)
    texts = ["profit rises", "loss widens", "sales of the bank", "shares fall"]
    batch = adapted.encode(texts, labels=[0, 1, 2, 3]).batch(range(4))
    plain = adapted.logits(adapted.encode(texts).batch(range(4)))
    slices = [slice(0, 2), slice(0, 2), slice(2, 4), slice(2, 4)]
    expected = [
        torch.nn.functional.cross_entropy(plain[row, own][None], torch.tensor([row % 2]))
        for row, own in enumerate(slices)
    ]
    losses = batch_losses(adapted, batch)
    torch.testing.assert_close(losses, torch.stack(expected))
    [head] = [p for name, p in adapted.trainable().items() if name.endswith("classifier.weight")]
    [gradient] = torch.autograd.grad(losses[0], [head])
    assert (gradient[2:] == 0).all()
    assert (gradient[:2] != 0).any()


def test_no_row_is_given_another_tasks_label(tmp_path: Path) -> None:
    rows = tuple(Example(f"profit of bank {n} rises", n % 4) for n in range(40))
    matrix = evaluate(model(tmp_path), Dataset(rows, LABELS, "rows")).matrix
    assert matrix[:2, :2].sum() == matrix[2:, 2:].sum() == 20


def test_institutions_with_rows_of_some_tasks_train_one_adapter_and_each_task_is_measured(tmp_path: Path) -> None:
    workspace = Workspace.create(write_several(tmp_path), tmp_path / "out")
    assert workspace.config.labels == LABELS
    result = run_simulation(workspace)
    assert {f"{name} {figure}" for name in (SENTIMENT, RISK) for figure in ("accuracy", "weighted F1")} <= set(
        result.metrics
    )
    assert all(0 < value <= 8 for value in result.epsilon.values())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert set(history[-1]["contributed"]) == set(OWN)
    assert set(WORDS) == {"negative", "positive"}
    predictor = Predictor(tmp_path / "out" / "adapter", RISK)
    assert all(set(each.probabilities) == {"high", "low"} for each in predictor.classify(["profit rises", "loss"]))
    with pytest.raises(ConfigurationError, match=f"name one that it serves: {RISK}, {SENTIMENT}"):
        Predictor(tmp_path / "out" / "adapter")


def test_labels_without_their_task_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_simulation(tmp_path)
    path.write_text(path.read_text().replace(f'"{SENTIMENT}"', '"multi_task"'))
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "write task/label" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="write task/label"):
        load_base(ModelConfig(max_tokens=64, base="minilm"), task("multi_task"), ("a", "b"))

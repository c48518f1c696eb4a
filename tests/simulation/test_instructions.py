"""Institutions teach one model together to respond to prompts, and the hub judges it by the texts that it writes."""

import json
from pathlib import Path

import pytest

from client.inference.predictor import load_adapter
from common.errors import ConfigurationError, DataError
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.client.finetune.example_data import save_tiny_writer
from tests.simulation.helpers import write_simulation

ANSWERS = {"loss": "falls", "profit": "rises"}


def write_instructed(directory: Path, task: str = "instruction_tuning") -> Path:
    """The small simulation with prompts: each institution has one instruction, in one file with all."""
    path = write_simulation(directory)
    save_tiny_writer(directory / "decoder", hidden_size=32)
    text = path.read_text().replace("sentiment_analysis", task).replace('labels = ["negative", "positive"]\n', "")
    text = text.replace("rows.csv", "rows.jsonl").replace(f"{directory / 'base'}", f"{directory / 'decoder'}")
    rows = []
    for bank in ("north", "south"):
        for number in range(30):
            word = ("loss", "profit")[number % 2]
            row = {"bank": bank, "split": "test" if number % 5 == 0 else "train"}
            if task == "instruction_tuning":
                row |= {"instruction": f"the bank {bank}", "input": f"{word} {number}", "output": ANSWERS[word]}
            else:
                row |= {"text": f"the bank {bank} {word} {number}", "summary": ANSWERS[word]}
            rows.append(json.dumps(row) + "\n")
    (directory / "rows.jsonl").write_text("".join(rows))
    path.write_text(text)
    return path


def test_a_run_is_judged_by_what_the_model_writes_for_each_institution_and_charges_everybody(tmp_path: Path) -> None:
    result = run_simulation(Workspace.create(write_instructed(tmp_path), tmp_path / "out"))
    assert set(result.metrics) == {"accuracy", "perplexity", "macro_f1", "valid_answers"}
    assert result.metrics["perplexity"] < result.before_round_1["perplexity"]
    assert all(0 < value <= 8 for value in result.epsilon.values())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert set(history[-1]["by_institution"]) == {"north", "south"}
    assert set(history[-1]["by_institution"]["north"]) == set(result.metrics)
    assert (tmp_path / "out" / "adapter" / "chat_template.jinja").exists()
    assert len(load_adapter(tmp_path / "out").predict(["the bank north loss"])) == 1


def test_declared_answers_give_figures_of_each_kind_and_a_bank_with_others_is_named_before_anything_is_written(
    tmp_path: Path,
) -> None:
    path = write_instructed(tmp_path)
    declared = "".join(f'"the bank {bank}" = ["falls", "rises"]\n' for bank in ("north", "south"))
    path.write_text(f"{path.read_text()}\n[task.answers]\n{declared}")
    result = run_simulation(Workspace.create(path, tmp_path / "out"))
    assert {f"the bank {bank} valid answers" for bank in ("north", "south")} <= set(result.metrics)
    assert load_adapter(tmp_path / "out").answers["the bank north"] == ("falls", "rises")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"rises"', '"goes up"', 1))
    with pytest.raises(DataError, match=r"row 2, column \"output\" holds an answer that is not one of falls, rises"):
        Workspace.create(path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_summaries_are_a_case_of_the_same(tmp_path: Path) -> None:
    path = write_instructed(tmp_path, "document_summarization")
    result = run_simulation(Workspace.create(path, tmp_path / "out"))
    assert set(result.metrics) == {"accuracy", "perplexity", "rouge_l"}
    assert len(load_adapter(tmp_path / "out").predict(["the bank north loss"])) == 1


def test_baselines_that_label_are_no_baselines_of_a_model_that_writes(tmp_path: Path) -> None:
    workspace = Workspace.create(write_instructed(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="predicts or writes text"):
        run_simulation(workspace, baselines=True)

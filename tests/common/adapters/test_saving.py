"""A saved adapter is whole or absent, and its card's Python uses the public face for every kind of adapter."""

from pathlib import Path
from typing import Any

import pytest

from client.finetune import FineTuningJob, TrainingOptions, finetune
from common.adapters.saving import write_adapter
from common.tasks import TASKS
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.client.finetune.example_data import TinyModels, task_data
from tests.simulation.helpers import write_simulation
from tests.tiny_models import shaken, tiny_adapted


def run_card(adapter: Path) -> dict[str, Any]:
    """Run the card's Python, with the adapter's directory in its place. Returns the names that it sets."""
    card = (adapter / "README.md").read_text()
    [code] = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert "common." not in code
    assert "client." not in code
    scope: dict[str, Any] = {}
    exec(code.replace("THIS DIRECTORY", str(adapter)), scope)  # noqa: S102
    return scope


def test_the_card_of_several_tasks_names_one_and_lists_the_others(tmp_path: Path) -> None:
    tasks = ("sentiment_analysis", "financial_ner")
    data = tuple(task_data(name, 40, 12) for name in tasks)
    training = TrainingOptions(epochs=1)
    base = TinyModels(tmp_path)("bert")
    job = FineTuningJob(data=data, out=tmp_path / "out", strategy="multi_task", base_model=base, training=training)
    adapter = finetune(job).adapter
    assert run_card(adapter)["model"].task.name == "sentiment_analysis"
    assert "Its tasks: sentiment_analysis, financial_ner.\n" in (adapter / "README.md").read_text()


def test_the_card_of_a_summariser_writes_a_summary(tmp_path: Path) -> None:
    data = task_data("document_summarization", 40, 8)
    training = TrainingOptions(epochs=1)
    job = FineTuningJob(data=(data,), out=tmp_path / "out", base_model=TinyModels(tmp_path)("t5"), training=training)
    assert isinstance(run_card(finetune(job).adapter)["model"].predict(["profit rises"])[0], str)


def test_the_card_of_a_federation_loads_its_adapter(tmp_path: Path) -> None:
    run_simulation(Workspace.create(write_simulation(tmp_path, rounds=1), tmp_path / "out"))
    model = run_card(tmp_path / "out" / "adapter")["model"]
    assert set(model.predict(["profit rises", "loss falls"])) <= {"negative", "positive"}


def test_the_card_of_a_language_model_says_what_it_is_for(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path, which=TASKS["masked_language_modelling"], labels=0, layers="last:1")
    model.save_pretrained(tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "```python" not in card
    assert "Fine-tune its base model on a task" in card


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_equal_adapters_give_equal_bytes_and_the_files_beside_them_stay_as_given(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path)
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name, {"Task": "sentiment"}, {"fedfin.json": b"{}"})
    first = files(tmp_path / "one")
    assert first == files(tmp_path / "two")
    assert first["fedfin.json"] == b"{}"
    assert b"- **Task**: sentiment\n" in first["README.md"]


def test_a_disk_that_refuses_leaves_the_old_adapter_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_adapted(tmp_path)
    directory = tmp_path / "adapter"
    model.save_pretrained(directory)
    before = files(directory)

    def full(path: Path, content: bytes, **_: Any) -> None:
        if path.name == "README.md":
            raise OSError(28, "no space left")
        path.write_bytes(content)

    monkeypatch.setattr("common.adapters.saving.write_atomic", full)
    config = model.module.peft_config["default"]
    with pytest.raises(OSError, match="no space"):
        write_adapter(directory, model.base, config, shaken(model).export(), {}, {})
    assert files(directory) == before
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "bert3"}, "no draft is left"

"""Every way to train leaves its record and its report, and keeps a log for another tool if asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.finetune import FineTuningJob, FineTuningResult, TaskData, TrainingOptions, finetune
from client.finetune.domain import adapt_to_domain
from client.finetune.observing import copy_record
from client.finetune.strategies import stages
from client.finetune.strategies.domain_adversarial import AdversarialJob
from client.finetune.strategies.stages import Stage, StagesJob
from client.tracking.history import read_history
from client.tracking.rounds import RoundTracker, run_directory
from common.data.datasets import Dataset
from common.errors import CheckpointError, ConfigurationError
from common.events import StepEvent
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.client.finetune.strategies.test_continual_pretraining import corpus, labelled
from tests.simulation.helpers import write_simulation
from tests.tiny_models import save_tiny_model

PROBE = TaskData("document_classification", labelled(), labelled(20, seed=1))
SHORT = TrainingOptions(epochs=1, batch_size=16, validation=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("models") / "base"))


def recorded(out: Path) -> dict[str, Any]:
    """The record of a training. Only its owner can read it."""
    for name in ("tracker.json", "report.html"):
        assert (out / name).stat().st_mode & 0o077 == 0, name
    content: dict[str, Any] = json.loads((out / "tracker.json").read_text())
    assert content["steps"]["step"]
    return content


def test_the_python_call_leaves_record_report_and_log(base: str, tmp_path: Path) -> None:
    job = FineTuningJob(data=(PROBE,), out=tmp_path, base_model=base, training=SHORT, log_to="tensorboard")
    result = finetune(job)
    content = recorded(tmp_path)
    assert content["run"]["metrics"] == result.measured
    assert result.report == tmp_path / "report.html"
    assert any((tmp_path / "tensorboard").rglob("events.out*"))
    again = finetune(job)  # finished before: the same result, with its record
    assert (again.report, again.recommendations) == (result.report, result.recommendations)
    assert FineTuningResult.from_json(json.loads((tmp_path / "result.json").read_text())) == again


def test_adaptation_and_adversarial_training_leave_their_record(base: str, tmp_path: Path) -> None:
    general = tmp_path / "general.txt"
    general.write_text("the net of a market in strong million\n\ncompany to its by weak\n")
    adapted = adapt_to_domain(
        "sec_filings", corpus(60), tmp_path / "adapt", base_model=base, reference_text=general, new_words=False,
        max_tokens=32, training=SHORT,
    )  # fmt: skip
    assert recorded(tmp_path / "adapt")["run"]["warnings"] == list(adapted.warnings)
    other = Dataset.of([f"loss of bank {number}" for number in range(30)])
    job = AdversarialJob(
        data=(PROBE,), out=tmp_path / "two", base_model=base, training=SHORT, other=other,
        strategy="domain_adversarial",
    )  # fmt: skip
    assert "domains_told_apart" in finetune(job).measured
    recorded(tmp_path / "two")
    with pytest.raises(CheckpointError, match="holds another training"):
        finetune(replace(job, other=Dataset.of([f"rise of share {number}" for number in range(30)])))


def test_every_stage_leaves_its_record_and_the_best_is_copied(base: str, tmp_path: Path) -> None:
    schedule = {name: Stage(1) for name in stages.STAGES}
    job = StagesJob(
        target=PROBE, out=tmp_path / "out",
        corpus=TaskData("masked_language_modelling", corpus(60), corpus(20, seed=1)),
        general=("the net of a market",), student_blocks=1, base_model=base, max_tokens=32, schedule=schedule,
    )  # fmt: skip
    result = stages.run(job)
    for name in ("domain_pretraining", "target_task", "knowledge_distillation"):
        recorded(tmp_path / "out" / name)
    best = tmp_path / "out" / result.measured["best"]
    assert recorded(tmp_path / "out") == recorded(best)
    assert stages.run(job).measured["best"] == result.measured["best"]


def test_a_federation_leaves_one_record_at_the_hub_and_another_at_each_institution(tmp_path: Path) -> None:
    workspace = Workspace.create(write_simulation(tmp_path), tmp_path / "out")
    run_simulation(workspace)
    hub = json.loads((tmp_path / "out" / "tracker.json").read_text())
    assert hub["side"] == "hub"
    assert [each["round"] for each in hub["rounds"]] == [1, 2]
    assert hub["summary"]["metric"] == "weighted_f1"
    text = json.dumps(hub)
    assert not any(word in text for word in ("loss", "examples", "tokens", "learning_rate"))
    for name in workspace.federation.train:
        out = run_directory(tmp_path / "out" / "institutions" / name, workspace.run_id)
        content = recorded(out)
        assert content["steps"]["step"] == [1, 2, 3, 4]  # two rounds of two steps
        assert content["steps"]["epoch"] == [1, 1, 2, 2]
        assert content["run"]["privacy"]["epsilon"] == pytest.approx(hub["rounds"][-1]["epsilon"][name])
        assert content["run"]["settings"]["rank"] == 4


def test_a_record_that_cannot_be_written_stops_no_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "runs").write_text("a file in the place of the directory")
    tracker = RoundTracker(run_directory(tmp_path, "run"), 1, 2)
    step = StepEvent(1, 1, 1, 0.5, 0.1, None, 0.1, 4, 20, 0.1)
    tracker.on_step(step)
    tracker.finish({})
    assert caplog.text.count("could not be written") == 1


def test_rounds_continue_one_record(tmp_path: Path) -> None:
    for round_ in (1, 2, 3):
        tracker = RoundTracker(tmp_path, round_, 3)
        for number in (1, 2):
            tracker.on_step(StepEvent(number, 2, 1, 1 / round_, 0.1, None, 0.1, 4, 20, float(number)))
        tracker.finish({"strategy": "federated", "settings": {}})
    track = read_history(tmp_path / "tracker.json")
    assert [step.step for step in track.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.seconds for step in track.steps] == [1, 2, 3, 4, 5, 6]
    assert [epoch.train_loss for epoch in track.epochs] == pytest.approx([1, 1 / 2, 1 / 3])


def test_a_copied_record_is_its_owners_alone_and_an_absent_one_is_left_out(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "tracker.json").write_text("{}")
    copy_record(tmp_path / "from", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["tracker.json"]
    assert (tmp_path / "to" / "tracker.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../../up", ".hidden", "a/b", "run 1"])
def test_the_record_of_a_run_stays_below_the_institutions_directory(tmp_path: Path, name: str) -> None:
    place = run_directory(tmp_path, name).resolve()
    assert place.parent == (tmp_path / "runs").resolve()


def test_a_tool_that_is_not_installed_is_refused_before_anything_is_written(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.tracking.experiment_log.importlib.util.find_spec", lambda _: None)
    job = FineTuningJob(data=(PROBE,), out=tmp_path / "out", base_model=base, training=SHORT, log_to="mlflow")
    with pytest.raises(ConfigurationError, match=r"pip install 'fedfin\[mlflow\]'"):
        finetune(job)
    assert not (tmp_path / "out").exists()

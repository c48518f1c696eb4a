"""Stages in a row: each starts from the result of the one before, cut anywhere and continued to the same result."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.commands import stages as stages_command
from client.finetune.job import TaskData
from client.finetune.strategies import distillation, stages
from client.finetune.strategies.stages import PUBLISHED, STAGES, Stage, StagesJob
from client.finetune.training.time_budget import TimeBudgetExceeded
from common.adapters.restore import load_adapter
from common.base_models.provenance import read_provenance
from common.data.datasets import Dataset, TokenExample
from common.errors import ConfigurationError, DataError, ModelError
from common.events import Observer
from common.tasks import task
from tests.client.commands.institution_commands import command_line
from tests.client.finetune.strategies.test_continual_pretraining import GENERAL, KIND, corpus, labelled
from tests.tiny_models import save_tiny_model

main = command_line(stages_command.add)

NAMES = ["domain_pretraining", "intermediate_task", "target_task", "knowledge_distillation"]


def characters(rows: Any) -> int:
    """Return the number of characters of all texts."""
    return sum(len(example.text) for example in rows.examples)


def job(tmp_path: Path, out: str, **changes) -> StagesJob:
    base = tmp_path / "base"
    if not base.exists():
        save_tiny_model(base)
    values = {
        "target": TaskData(task("document_classification"), labelled(300), labelled(20, seed=1)),
        "intermediate": (
            TaskData(task("document_classification"), labelled(40, seed=5), labelled(20, seed=6)),
            TaskData(task("risk_classification"), labelled(40, seed=7), labelled(20, seed=8)),
        ),
        "corpus": TaskData(KIND, corpus(), corpus(20, seed=1)),
        "general": GENERAL,
        "student_blocks": 1,
        "out": tmp_path / out,
        "base_model": str(base),
        "max_tokens": 32,
        "schedule": {name: Stage(2, 0.01) for name in NAMES},
    }
    return StagesJob(**{**values, **changes})


class Cut(Exception):
    pass


class Cutter(Observer):
    """Stops everything at the so-manieth step, whichever stage that is in."""

    def __init__(self, step: int) -> None:
        self.left = step

    def on_step(self, event) -> None:
        self.left -= 1
        if self.left == 0:
            raise Cut

    def on_epoch(self, event) -> None:
        pass


def test_the_published_schedule_is_the_default_but_for_its_rates() -> None:
    assert {name: (stage.epochs, stage.learning_rate) for name, stage in PUBLISHED.items()} == {
        "domain_pretraining": (2, 1e-5),
        "intermediate_task": (3, 2e-5),
        "target_task": (5, 3e-5),
        "knowledge_distillation": (2, 1e-5),
    }
    assert {name: stage.epochs for name, stage in STAGES.items()} == {n: s.epochs for n, s in PUBLISHED.items()}


def test_every_stage_is_measured_and_killed_half_way_the_rest_ends_in_the_same_result(tmp_path: Path) -> None:
    whole = stages.run(job(tmp_path, "whole"))
    history = whole.measured["stages"]
    assert [entry["stage"] for entry in history] == NAMES
    assert history[0]["target_probe"]["accuracy"] > 0
    assert all(0 < entry["parameter_efficiency"] < 1 for entry in history)
    assert whole.measured["total_seconds"] == pytest.approx(sum(entry["seconds"] for entry in history), abs=0.1)
    assert whole.measured["best"] in ("target_task", "knowledge_distillation")
    assert read_provenance(history[2]["base_model"]).private_text
    assert load_adapter(whole.adapter)[1].tasks == {"document_classification": ("down", "up")}
    for step in (5, 40):
        with pytest.raises(Cut):
            stages.run(job(tmp_path, f"cut{step}", observers=(Cutter(step),)))
        again = stages.run(job(tmp_path, f"cut{step}"))
        for mine, theirs in zip(history, again.measured["stages"], strict=True):
            names = [Path(entry["adapter"]) / "adapter_model.safetensors" for entry in (mine, theirs)]
            assert names[0].read_bytes() == names[1].read_bytes(), (step, mine["stage"])
    assert stages.run(job(tmp_path, "whole")).measured["stages"] == history


def test_stages_can_be_left_out(tmp_path: Path) -> None:
    outcome = stages.run(job(tmp_path, "out", corpus=None, intermediate=(), student_blocks=None))
    assert [entry["stage"] for entry in outcome.measured["stages"]] == ["target_task"]
    assert json.loads((tmp_path / "out" / "stages.json").read_text())["stages"][0]["stage"] == "target_task"


def test_without_hours_for_the_target_it_says_so_and_continues_later(tmp_path: Path) -> None:
    short = job(tmp_path, "out", corpus=None, intermediate=(), student_blocks=None, max_hours=1e-9)
    with pytest.raises(TimeBudgetExceeded, match="max_hours"):
        stages.run(short)
    longer = job(tmp_path, "out", corpus=None, intermediate=(), student_blocks=None, max_hours=1.0)
    assert stages.run(longer).measured["best"] == "target_task"


def test_the_hours_are_divided_among_the_stages_to_come_by_the_text_they_pass(tmp_path: Path) -> None:
    seen: dict[str, float] = {}
    outcome = stages.run(job(tmp_path, "out", max_hours=2.0))
    for entry in outcome.measured["stages"]:
        assert entry["hours"].endswith(" h")
        seen[entry["stage"]] = float(entry["hours"].split(" of ")[-1].removesuffix(" h"))
    text, target = characters(corpus()), characters(labelled(300))
    other = characters(labelled(40, seed=5)) + characters(labelled(40, seed=7))
    assert seen["domain_pretraining"] == pytest.approx(2.0 * text / (text + other + 2 * target), rel=0.1)
    assert seen["target_task"] == pytest.approx(seen["knowledge_distillation"], rel=0.6)
    assert sum(seen.values()) > 2.0  # hours that a stage leaves over go to the later stages


def test_a_stage_that_does_not_fit_at_the_end_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise TimeBudgetExceeded("max_hours: too few")

    monkeypatch.setattr(distillation, "run", refuse)
    outcome = stages.run(job(tmp_path, "out", corpus=None, intermediate=(), max_hours=1.0))
    assert outcome.measured["best"] == "target_task"
    assert "knowledge_distillation" in outcome.warnings[-1]
    assert outcome.adapter == tmp_path / "out" / "adapter"
    assert outcome.predict(["profit rises rises profit"]) == ["up"]


def test_a_student_as_deep_as_its_teacher_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 to 1 of its 2 blocks"):
        stages.run(job(tmp_path, "out", student_blocks=2))
    assert not (tmp_path / "out").exists()


def test_what_a_later_stage_would_refuse_is_refused_before_the_first(tmp_path: Path) -> None:
    other = replace(labelled(20, seed=1), labels=("down", "sideways"))
    rows = TaskData(task("document_classification"), labelled(300), other)
    with pytest.raises(DataError, match="labels are not those"):
        stages.run(job(tmp_path, "out", target=rows))
    with pytest.raises(DataError, match="labels are not those"):
        stages.run(job(tmp_path, "out", intermediate=(rows,)))
    assert not (tmp_path / "out").exists()


def test_words_can_be_the_target_too_without_a_student(tmp_path: Path) -> None:
    tags = ("O", "B-ORG")
    sentences = [TokenExample(("bank", "rises", str(number)), (1, 0, 0)) for number in range(60)]
    words = TaskData(
        task("financial_ner"),
        Dataset(tuple(sentences[:50]), tags, "train"),
        Dataset(tuple(sentences[50:]), tags, "test"),
    )
    short = {"intermediate": (), "corpus": TaskData(KIND, corpus(30), corpus(20, seed=1))}
    outcome = stages.run(job(tmp_path, "out", target=words, student_blocks=None, **short))
    assert outcome.measured["entity_f1"] > 0.9
    assert outcome.predict(["bank rises 7"]) == ["B-ORG O O"]
    with pytest.raises(ConfigurationError, match="student_blocks"):
        stages.run(job(tmp_path, "student", target=words, **short))


def test_the_command_refuses_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nprofit rises,up\nloss falls,down\n")
    common = ["stages", "--task", "document_classification", "--train", str(rows), "--test", str(rows)]
    assert main([*common, "--corpus", str(rows), "--out", str(tmp_path / "out")]) == 2
    assert "--domain" in capsys.readouterr().err
    assert main([*common, "--domain", "sec_filings", "--out", str(tmp_path / "out")]) == 2
    assert "--domain goes with --corpus" in capsys.readouterr().err
    assert main([*common, "--intermediate-task", "risk_classification", "--out", str(tmp_path / "out")]) == 2
    assert "--intermediate" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

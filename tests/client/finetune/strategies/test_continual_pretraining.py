"""Continual pretraining: the words it adds, the metrics it measures, and the files it leaves for the next training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli import main
from client.finetune import finetune
from client.finetune.job import FineTuningJob, TaskData, TrainingOptions
from client.finetune.strategies import continual_pretraining
from client.finetune.strategies.continual_pretraining import AdaptationJob
from client.finetune.strategies.domain_terms import TermList
from client.finetune.strategies.linear_probe import linear_probe
from client.finetune.strategies.quality import forgotten, quality_of
from client.finetune.strategies.single_task import run as finetune_one
from client.finetune.training.time_budget import describe_time_budget
from common.base_models.provenance import read_provenance
from common.data.corpora import read_split
from common.data.datasets import Dataset, Example
from common.errors import CheckpointError, ConfigurationError, DataError, FedfinError, ModelError
from common.events import Observer
from common.tasks import task
from tests.tiny_models import VOCABULARY, save_tiny_model

WORDS = [word for word in VOCABULARY if len(word) > 3 and not word.startswith("[")]
KIND = task("masked_language_modelling")
GENERAL = ("the net of a market in strong million", "company to its by weak")


def corpus(count: int = 60, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    texts = [
        f"profit ebitda rises {' '.join(rng.choice(WORDS, 2))} loss goodwill falls {n}{seed}" for n in range(count)
    ]
    return Dataset(tuple(Example(text, 0) for text in texts), (), "texts")


def labelled(count: int = 60, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = [(label, rng.choice([["loss", "falls"], ["profit", "rises"]][label], 5)) for label in (0, 1) * (count // 2)]
    texts = [(f"{' '.join(words)} {number}{seed}", label) for number, (label, words) in enumerate(rows)]
    return Dataset(tuple(Example(text, label) for text, label in texts), ("down", "up"), "rows")


def job(tmp_path: Path, **changes) -> AdaptationJob:
    base = tmp_path / "base"
    if not base.exists():
        save_tiny_model(base)
    values = {
        "data": (TaskData(KIND, corpus(), corpus(20, seed=1)),),
        "out": tmp_path / "out",
        "strategy": "continual_pretraining",
        "base_model": str(base),
        "max_tokens": 32,
        "training": TrainingOptions(epochs=3, batch_size=8, learning_rate=0.01, validation=0.0),
        "terms": TermList(("ebitda", "goodwill"), "private", "test"),
        "general": GENERAL,
    }
    return AdaptationJob(**{**values, **changes})


def test_the_domain_is_read_better_afterwards_and_everything_is_measured(tmp_path: Path) -> None:
    rows = TaskData(task("document_classification"), labelled(), labelled(20, seed=1))
    outcome = continual_pretraining.run(job(tmp_path, probes=(rows,)))
    metrics = outcome.measured
    before, after = metrics["before"], metrics["after"]
    assert after["domain"]["loss_per_word"] < before["domain"]["loss_per_word"]
    assert after["domain"]["tokens_per_word"] < before["domain"]["tokens_per_word"]
    assert metrics["new_tokens"] == 2
    assert set(metrics["probes"]) == set(before["probes"]) == {"document_classification"}
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert written["base_model"] == outcome.base_model
    looked_at = written["settings"]["inspection"]["splits"]
    assert [split["name"] for split in looked_at] == ["train", "test"]
    assert [split["labels"] for split in looked_at] == [{}, {}]
    assert (outcome.adapter / "tokenizer.json").is_file()
    assert "ebitda" in (outcome.adapter / "tokenizer.json").read_text()


def test_what_comes_out_is_a_base_model_that_finetune_takes(tmp_path: Path) -> None:
    outcome = continual_pretraining.run(job(tmp_path))
    rows = TaskData(task("document_classification"), labelled(), labelled(20, seed=1))
    tuned = finetune_one(
        FineTuningJob(
            data=(rows,),
            out=tmp_path / "task",
            base_model=outcome.base_model,
            max_tokens=32,
            training=TrainingOptions(epochs=4, batch_size=8, learning_rate=0.01, validation=0.0),
        )
    )
    assert tuned.measured["accuracy"] > 0.9
    assert read_provenance(outcome.base_model).private_text


def test_public_text_leaves_a_base_model_that_may_be_shared(tmp_path: Path) -> None:
    outcome = continual_pretraining.run(job(tmp_path, public=True, terms=TermList(("ebitda",), "public", "list")))
    assert not read_provenance(outcome.base_model).private_text


def test_cut_in_the_middle_it_ends_in_the_same_model(tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    class Cutter(Observer):
        def on_step(self, event) -> None:
            if event.step == 10:
                raise Cut

        def on_epoch(self, event) -> None:
            pass

    whole = continual_pretraining.run(job(tmp_path))
    with pytest.raises(Cut):
        continual_pretraining.run(job(tmp_path, out=tmp_path / "cut", observers=(Cutter(),)))
    resumed = continual_pretraining.run(job(tmp_path, out=tmp_path / "cut"))
    names = ["adapter_model.safetensors"]
    assert all((whole.adapter / name).read_bytes() == (resumed.adapter / name).read_bytes() for name in names)
    assert whole.measured == resumed.measured
    again = continual_pretraining.run(job(tmp_path))
    assert again.base_model == whole.base_model


def test_it_plans_for_its_hours_and_its_memory_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    outcome = finetune(job(tmp_path, max_hours=10.0))
    assert outcome.train_metrics["planned_steps"] == outcome.train_metrics["wanted_steps"] == 24
    assert describe_time_budget(outcome.train_metrics).startswith("24 steps planned: ")
    with pytest.raises(ConfigurationError, match="max_hours"):
        finetune(job(tmp_path, out=tmp_path / "none", max_hours=1e-9))
    with pytest.raises(ModelError, match="max_memory_gb"):
        finetune(job(tmp_path, out=tmp_path / "memory", max_memory_gb=0.001))


def test_what_was_taught_to_read_says_that_it_labels_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="labels nothing"):
        continual_pretraining.run(job(tmp_path)).predict(["profit rises"])


def test_a_directory_of_others_and_one_that_was_begun_with_other_words_are_refused(tmp_path: Path) -> None:
    continual_pretraining.run(job(tmp_path))
    with pytest.raises(CheckpointError, match="other words"):
        continual_pretraining.run(job(tmp_path, terms=TermList(("ebitda",), "private", "test")))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(ConfigurationError, match="other files"):
        continual_pretraining.run(job(tmp_path, out=tmp_path / "mine"))


@pytest.mark.parametrize("wrong", [{"max_tokens": 3000}, {"max_memory_gb": 0.001}, {"device": "cuda:7"}])
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(FedfinError):
        continual_pretraining.run(job(tmp_path, **wrong))
    assert not (tmp_path / "out").exists()


def test_forgetting_past_the_threshold_is_said() -> None:
    def measured(rise: float, accuracy: float, similarity: float) -> dict[str, Any]:
        texts = {name: {"loss_per_word": 5.0, "tokens_per_word": 1.5} for name in ("domain", "general")}
        later = {
            "domain": {"loss_per_word": 4.0, "tokens_per_word": 1.2},
            "general": {"loss_per_word": 5.0 * (1 + rise), "tokens_per_word": 1.5},
        }
        before = {**texts, "probes": {"x": {"accuracy": 0.8}}}
        after = {"probes": {"x": {"accuracy": accuracy}}, "general_similarity": similarity}
        return {"before": before, "after": later, **after}

    assert len(forgotten(measured(0.2, 0.7, 0.5))) == 3
    assert forgotten(measured(0.05, 0.79, 0.95)) == ()
    quality = quality_of(measured(0.1, 0.75, 0.9))
    assert (quality.domain_gain, quality.tokens_saved) == pytest.approx((0.2, 0.2))
    assert (quality.probe_change, quality.general_rise, quality.similarity) == pytest.approx((-0.05, 0.1, 0.9))
    assert quality.quality == pytest.approx(0.2 - 0.05 - 0.1)
    assert quality_of(measured(-0.3, 0.8, 1.0)).quality == pytest.approx(0.2)  # a general loss that fell counts as 0


def test_a_probe_sees_what_the_base_model_can_tell_apart(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "base")
    rows = TaskData(task("document_classification"), labelled(), labelled(20, seed=1))
    assert linear_probe(str(tmp_path / "base"), rows, 32)["accuracy"] > 0.9
    other = labelled(20, seed=1)
    turned = Dataset(tuple(Example(e.text, 1 - e.label) for e in other.examples), other.labels, "turned")
    wrong = TaskData(task("document_classification"), labelled(), turned)
    assert linear_probe(str(tmp_path / "base"), wrong, 32)["accuracy"] < 0.1


def test_a_company_is_on_one_side_only(tmp_path: Path) -> None:
    lines = [json.dumps({"company": f"c{n % 12}", "text": f"text {n} of {n % 12}"}) for n in range(120)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    train, test = read_split(tmp_path / "x.jsonl", None, "company", 0.25)
    companies = [{e.text.split()[-1] for e in side.examples} for side in (train, test)]
    assert not companies[0] & companies[1]
    assert len(train) + len(test) == 120
    with pytest.raises(DataError, match="column"):
        read_split(tmp_path / "x.jsonl", None, "firm", 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "sec_filings", "--corpus", "absent.txt"], "no such data file"),
        (["--domain", "sec_filings", "--corpus", "TEXT", "--probe-train", "TEXT"], "--probe-test"),
        (["--domain", "sec_filings", "--corpus", "TEXT", "--max-texts", "3"], "--max-texts"),
        (["--domain", "sec_filings", "--corpus", "TEXT", "--base-model", "/absent"], "no such directory"),
        (["--domain", "sec_filings", "--corpus", "TEXT", "--group-column", "company"], "only a table"),
    ],
)
def test_bad_input_ends_in_a_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(f"net sales of bank {n} rise" for n in range(50)))
    given = [str(tmp_path / "text.txt") if part == "TEXT" else part for part in arguments]
    assert main(["adapt", *given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()

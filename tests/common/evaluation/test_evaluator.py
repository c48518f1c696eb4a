"""An evaluator measures the weights that the model holds when it is called, by the task's own metrics."""

from pathlib import Path

import pytest

from client.finetune import FineTuningJob, TrainingOptions, finetune
from common.adapters.restore import load_adapter
from common.evaluation.evaluate import evaluate
from common.evaluation.evaluator import make_evaluator
from common.evaluation.task_metrics import task_metrics
from common.tasks import TASKS
from tests.client.finetune.example_data import TinyModels, dataset, labels_of, task_data
from tests.tiny_models import shaken, tiny_adapted


@pytest.mark.parametrize("task", ["sentiment_analysis", "financial_ner"])
def test_it_follows_the_weights_from_call_to_call(tmp_path: Path, task: str) -> None:
    pooling = "native" if TASKS[task].head.labels_words else "mean"
    model = tiny_adapted(tmp_path, which=TASKS[task], labels=len(labels_of(task)), pooling=pooling)
    rows = dataset(task, 40, seed=3)
    evaluator = make_evaluator(model, TASKS[task], rows)
    measured = []
    for seed in range(4):
        shaken(model, seed)
        measured.append(evaluator())
        assert measured[-1] == task_metrics(TASKS[task], rows.labels, evaluate(model, rows))
    assert len({result["accuracy"] for result in measured}) > 1


def test_of_a_shared_encoder_it_measures_the_head_of_its_own_task(tmp_path: Path) -> None:
    names = ("sentiment_analysis", "financial_ner")
    data = tuple(task_data(name, 48, 16) for name in names)
    job = FineTuningJob(
        data=data, out=tmp_path / "out", strategy="multi_task", base_model=TinyModels(tmp_path)("bert"),
        training=TrainingOptions(epochs=1),
    )  # fmt: skip
    result = finetune(job)
    model, _, _ = load_adapter(result.adapter)
    evaluators = {part.task.name: make_evaluator(model, part.task, part.test) for part in data}
    for name in (*names, *reversed(names)):
        assert evaluators[name]() == pytest.approx(result.measured[name])


@pytest.mark.parametrize(("written", "rouge_l"), [("reference", 1.0), ("other", 0.0)])
def test_summaries_are_measured_by_the_texts_that_the_model_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, rouge_l: float
) -> None:
    task = TASKS["document_summarization"]
    model = tiny_adapted(tmp_path, family="t5", which=task, labels=0)
    rows = dataset(task.name, 6, seed=2)
    texts = [example.response if written == "reference" else "other" for example in rows.examples]
    monkeypatch.setattr("common.evaluation.evaluate.write", lambda *_: texts)
    measured = make_evaluator(model, task, rows)()
    assert (measured["rouge_l"], measured["accuracy"]) == (rouge_l, rouge_l)
    assert "valid_answers" not in measured, "a summary is no label"

"""Every adapter method x task x strategy that is claimed, from rows to a saved adapter that loads and predicts."""

import json
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.dp.mechanism import DpSettings
from client.dp.noise import FixedNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from client.finetune import (
    AdapterOptions,
    FineTuningJob,
    FineTuningResult,
    Previous,
    PrivacyOptions,
    TaskData,
    TrainingOptions,
    finetune,
)
from client.finetune.options.defaults import ResolvedSettings
from client.finetune.options.memory import MemoryEstimate, estimate_memory
from client.inference.merge import merge_adapter
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest
from common.adapters.restore import build, load_adapter
from common.adapters.tensors import seeded
from common.base_models.extend import write_extended_base
from common.base_models.provenance import refuse_private_base
from common.errors import ConfigurationError, ModelError
from common.identity.keys import PrivateKeys
from common.privacy.ledger import PrivacyLedger
from common.tasks import TASKS, Task
from common.tokenization.batches import IGNORED
from tests.client.finetune.example_data import TinyModels, labels_of, task_data
from tests.client.finetune.families import FAMILIES, FAULT, RESULTS, outcome, save_family
from tests.client.finetune.matrix import (
    HEADS,
    METHODS,
    PRIVATE,
    QUICK_PRIVATE,
    REFUSED,
    SHARED,
    TASK_NAMES,
    Cell,
    cells,
    grid,
    matrix,
    quick_cells,
    quick_grid,
)
from tests.reference.per_example import clipped_sum, relative_error

ROOT = Path(__file__).parents[3]


def nightly(every: Iterable[Any], quick: Iterable[Any]) -> list[Any]:
    """Mark each combination that is not in the quick part: `make matrix` runs it, and `make test` does not."""
    quick = set(quick)
    marks = [() if each in quick else (pytest.mark.matrix,) for each in every]
    values = [each if isinstance(each, tuple) else (each,) for each in every]
    return [
        pytest.param(*value, marks=mark, id="-".join(map(str, value)))
        for value, mark in zip(values, marks, strict=True)
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _libraries_that_warn() -> None:
    warnings.filterwarnings("ignore", module="bitsandbytes")


def job(models: TinyModels, out: Path, cell: Cell, seed: int = 1) -> FineTuningJob:
    names = cell.task.split("+")
    family = "t5" if TASKS[names[0]].head.writes_text else "bert"
    return FineTuningJob(
        data=tuple(task_data(name, seed=seed) for name in names),
        out=out,
        strategy=cell.strategy,
        base_model=models(family),
        adapter=AdapterOptions(method=cell.method),
        training=TrainingOptions(epochs=1),
    )


def train_cell(models: TinyModels, directory: Path, cell: Cell) -> FineTuningResult:
    if cell.strategy != "incremental":
        return finetune(job(models, directory / "out", cell))
    first = job(models, directory / "first", replace(cell, strategy="single_task"))
    before, old = finetune(first), first.data[0]
    again = job(models, directory / "out", replace(cell, strategy="single_task"), seed=11)
    previous = Previous(before.adapter, old.test, old.train if cell.method != "lora" else None)
    return finetune(replace(again, strategy="incremental", previous=previous))


@pytest.mark.parametrize("cell", nightly(cells(), quick_cells()))
def test_every_claimed_training_ends_in_an_adapter_that_loads(models: TinyModels, tmp_path: Path, cell: Cell) -> None:
    outcome = train_cell(models, tmp_path, cell)
    names = tuple(cell.task.split("+"))
    assert (outcome.strategy, outcome.tasks, outcome.method) == (cell.strategy, names, cell.method)
    metrics = outcome.measured["new"] if cell.strategy == "incremental" else outcome.measured
    for name in names:
        found = metrics[name] if len(names) > 1 else metrics
        value = found[TASKS[name].metric]
        assert value < 0 if TASKS[name].metric == "log_likelihood" else 0 <= value <= 1
    assert np.isfinite(outcome.train_metrics["loss"])
    model, recipe, facts = load_adapter(outcome.adapter)
    assert tuple(recipe.tasks) == names
    assert model.parameters_trained == outcome.trainable_parameters
    assert facts["metrics"] == outcome.measured
    if len(names) == 1:
        answers = outcome.predict(["profit rises strong", "loss of the bank"])
        assert len(answers) == 2


@pytest.mark.parametrize(("family", "head", "method"), nightly(grid(), quick_grid()))
def test_each_base_model_takes_the_methods_that_are_claimed_and_else_one_line_names_another(
    models: TinyModels, family: str, head: str, method: str
) -> None:
    [(task, pooling)] = [(task, pooling) for name, task, pooling in HEADS if name == head]
    wanted = recipe(models(family), task, method, pooling=pooling)
    other = REFUSED.get((family, head, method))
    if other is not None:
        with pytest.raises(ModelError, match=other or "base model") as caught:
            build(wanted)
        assert "\n" not in str(caught.value)
        return
    model = shaken(build(wanted))
    batch = model.encode(["profit rises", "net loss of the bank widens in the quarter"]).batch([0, 1])
    if TASKS[task].head.writes_text:
        batch = replace(batch, labels=batch.input_ids)
    logits = model.logits(batch)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.trainable().values())


def family_cells() -> list[tuple[str, str]]:
    return [(family, column) for family, row in json.loads(RESULTS.read_text()).items() for column in row]


@pytest.mark.parametrize(
    ("family", "column"), nightly(family_cells(), [("DeBERTa-v3", "text, private"), ("Qwen 3", "words")])
)
def test_each_family_does_what_the_page_says(tmp_path: Path, family: str, column: str) -> None:
    kind, _, private = column.partition(", ")
    found = outcome(save_family(family, tmp_path / "base"), kind, bool(private), tmp_path)
    assert found == json.loads(RESULTS.read_text())[family][column]


def test_every_family_is_on_the_page() -> None:
    outcomes = json.loads(RESULTS.read_text())
    assert list(outcomes) == list(FAMILIES)
    assert not [each for row in outcomes.values() for each in row.values() if each.startswith(FAULT)]


def recipe(base: str, task: str, method: str, pooling: str = "mean", **other: object) -> Manifest:
    values: dict[str, object] = {
        "max_tokens": 32,
        "rank": 2,
        "alpha": 4.0,
        "dropout": 0.0,
        "target_modules": "all-linear",
        "layers": "all",
        "trained_factors": "AB",
        "virtual_tokens": 3,
        "seed": 5,
    }
    names = {"base_model": base, "pooling": pooling, "tasks": {task: labels_of(task)}, "method": method}
    return Manifest.from_record({**values, **names, **other})


def shaken(model: AdaptedModel) -> AdaptedModel:
    """Away from the start, where zeros hide most gradients."""
    model.load({n: start + 0.1 * seeded(3, n, start.shape) for n, start in model.initial().items()})
    return model


@pytest.mark.parametrize(("head", "method"), nightly(PRIVATE, QUICK_PRIVATE))
def test_the_clipped_sum_of_every_method_is_that_of_a_loop_over_single_examples(
    models: TinyModels, head: str, method: str
) -> None:
    family, kind = head.split()
    task = {"text": "sentiment_analysis", "words": "financial_ner", "summary": "document_summarization"}[kind]
    model = shaken(build(recipe(models(family), task, method)))
    if kind == "summary" and method != "qlora":
        model.module.double()  # T5's rounding in float32 would hide the errors that this test looks for
    data = model.encode_dataset(task_data(task, rows=9).train)
    drawn = np.flatnonzero(FixedNoise(b"rows").uniform_mask(9, 0.7))
    before = {name: parameter.detach().double().clone() for name, parameter in model.trainable().items()}

    def loss(row: int) -> torch.Tensor:
        batch = data.batch([row])
        logits, labels = model.logits(batch)[0], batch.labels[0]
        chosen = torch.log_softmax(logits.double(), -1)
        if labels.ndim == 0:
            return -chosen[labels]
        counted = labels != IGNORED
        return -chosen[counted, labels[counted]].mean()

    trained = model.trainable()
    _, norms = clipped_sum(trained, [lambda row=row: loss(row) for row in drawn], 1.0)
    clip = float(np.median(norms))
    expected, _ = clipped_sum(trained, [lambda row=row: loss(row) for row in drawn], clip)
    dp = DpSettings(0.0, clip, 0.7, 1, expected_batch_size=1.0)
    train(model, data, DpTrainingPlan(1, 0.7, 1.0, 1.0, "sgd", 64, dp, 0), FixedNoise(b"rows"))
    found = {name: before[name] - parameter.detach().double() for name, parameter in model.trainable().items()}
    assert relative_error(found, {n: v.double() for n, v in expected.items()}) < PRIVATE[head, method]


@pytest.mark.parametrize("method", METHODS)
def test_private_training_charges_a_ledger_beside_its_output_before_it_trains(
    models: TinyModels, tmp_path: Path, method: str
) -> None:
    plain = job(models, tmp_path / "out", Cell("sentiment_analysis", method, "single_task"))
    outcome = finetune(replace(plain, privacy=PrivacyOptions(epsilon=3.0), training=TrainingOptions(epochs=1)))
    assert outcome.privacy is not None
    assert outcome.privacy.epsilon <= 3.0
    assert outcome.privacy.delta == 1e-3
    with PrivacyLedger.open(tmp_path / "out" / "ledger.jsonl", PrivateKeys.load(tmp_path / "out" / "keys")) as ledger:
        [charge] = ledger.charges
        assert ledger.epsilon(1e-3) == outcome.privacy.epsilon
    assert charge.steps_done == outcome.privacy.steps


def test_a_private_training_says_what_went_into_the_model_before_it(models: TinyModels, tmp_path: Path) -> None:
    cell = Cell("sentiment_analysis", "lora", "single_task")
    first = job(models, tmp_path / "first", cell)
    unprotected, old = finetune(first), first.data[0]
    words = ["ebitda"]
    write_extended_base(first.base_model, words, tmp_path / "base", private=True)
    private = replace(
        job(models, tmp_path / "alone", cell, seed=11),
        base_model=str(tmp_path / "base"),
        privacy=PrivacyOptions(epsilon=3.0),
    )
    assert finetune(private).privacy.does_not_cover[0] == "the private text that the base model was made from"
    again = replace(
        job(models, tmp_path / "again", cell, seed=11),
        strategy="incremental",
        previous=Previous(unprotected.adapter, old.test, old.train),
        privacy=PrivacyOptions(epsilon=3.0),
    )
    outcome = finetune(again)
    earlier, *always = outcome.privacy.does_not_cover
    assert earlier == "the rows of the adapter that was continued, which was trained with no privacy"
    assert [what.partition(":")[0] for what in always] == [
        "the figures on the test rows",
        "the power of two at or below the number of rows",
    ]
    card = (outcome.adapter / "README.md").read_text()
    assert all(f"not covered: {what}" in card for what in (earlier, *always))
    merge_adapter(outcome.adapter, tmp_path / "merged")
    with pytest.raises(ConfigurationError, match="learned from private text"):
        refuse_private_base(str(tmp_path / "merged"))


def test_what_was_private_from_the_start_merges_to_a_base_that_a_federation_takes(
    models: TinyModels, tmp_path: Path
) -> None:
    cell = Cell("sentiment_analysis", "lora", "single_task")
    outcome = finetune(replace(job(models, tmp_path / "out", cell, seed=11), privacy=PrivacyOptions(epsilon=3.0)))
    merge_adapter(outcome.adapter, tmp_path / "merged")
    refuse_private_base(str(tmp_path / "merged"))


def test_several_tasks_need_the_memory_of_the_one_that_needs_most(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def need(name: str, config: Any, kind: Task, settings: ResolvedSettings) -> MemoryEstimate:
        return replace(
            estimate_memory(name, config, kind, settings), activations=10**12 if kind.name == SHARED[-1] else 1
        )

    monkeypatch.setattr("client.finetune.strategies.session.estimate_memory", need)
    wanted = job(models, tmp_path / "out", Cell("+".join(SHARED), "lora", "multi_task"))
    with pytest.raises(ModelError, match=r"max_memory_gb is 100: this training needs about 100\d GB"):
        finetune(replace(wanted, max_memory_gb=100.0))
    assert not (tmp_path / "out").exists()


def test_risk_levels_of_any_name_are_learned_and_chosen_by_macro_f1(models: TinyModels, tmp_path: Path) -> None:
    wanted = job(models, tmp_path / "out", Cell("risk_classification", "lora", "single_task"))
    data = task_data("risk_classification", rows=120)
    named = [replace(rows, labels=("none", "slight", "some", "grave", "dire")) for rows in (data.train, data.test)]
    training = TrainingOptions(epochs=1, validation=0.5)
    outcome = finetune(replace(wanted, data=(TaskData(data.task, *named),), training=training))
    assert {"validation_macro_f1", "validation_weighted_f1"} <= set(outcome.train_metrics)
    assert not [name for name in outcome.measured if "high_risk" in name]


def test_multi_task_is_refused_with_privacy_and_names_what_can(models: TinyModels, tmp_path: Path) -> None:
    wanted = job(models, tmp_path / "out", Cell("+".join(SHARED), "lora", "multi_task"))
    with pytest.raises(ConfigurationError, match="single_task"):
        finetune(replace(wanted, privacy=PrivacyOptions(level="high")))
    assert not (tmp_path / "out").exists()


def test_the_quick_part_holds_each_task_method_and_strategy_and_nothing_that_is_not_claimed() -> None:
    quick = quick_cells()
    assert set(quick) <= set(cells())
    assert {cell.method for cell in quick} == set(METHODS)
    assert {cell.strategy for cell in quick} == {cell.strategy for cell in cells()}
    assert {name for cell in quick for name in cell.task.split("+")} == set(TASK_NAMES)
    assert set(quick_grid()) <= set(grid())
    assert set(QUICK_PRIVATE) <= set(PRIVATE)


def test_the_page_says_what_these_tests_run() -> None:
    assert (ROOT / "docs" / "matrix.md").read_text() == matrix(), (
        "python -m tests.client.finetune.matrix > docs/matrix.md"
    )


def test_a_summary_shares_no_encoder(models: TinyModels, tmp_path: Path) -> None:
    data: tuple[TaskData, ...] = (task_data("sentiment_analysis"), task_data("document_summarization"))
    with pytest.raises(ModelError, match="single_task"):
        finetune(FineTuningJob(data=data, out=tmp_path / "out", strategy="multi_task", base_model=models("t5")))

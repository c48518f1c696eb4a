"""Summaries by a decoder: how it is asked, and LoRA and QLoRA of it, from `finetune` down to the files it leaves."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import LlamaForCausalLM

from client.finetune import AdapterOptions, FineTuningJob, FineTuningResult, TaskData, TrainingOptions, finetune
from client.finetune.training.plan import LoopPlan
from client.finetune.training.sft import instruct
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.losses import example_losses
from common.adapters.restore import load_adapter
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.data.datasets import Dataset, ResponseExample
from common.errors import ConfigurationError, ModelError
from common.evaluation.writing import summarise
from common.events import EpochEvent, StepEvent
from common.tasks import task
from common.tokenization.batches import IGNORED
from common.tokenization.summary_prompt import INSTRUCTION, instruction_prompts, summary_prompts
from tests.client.finetune.example_data import save_tiny_writer
from tests.tiny_models import tiny_tokenizer

SUMMARY = task("document_summarization")
WORDS = ("profit", "loss", "sales", "shares", "market", "bank")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "llama"
    save_tiny_writer(path)
    return path


def pairs(count: int, start: int = 0) -> Dataset:
    """The summary of a text is its first word and whether it rose."""
    rows = []
    for n in range(start, start + count):
        word, way = WORDS[n % 6], ("rises", "falls")[n // 6 % 2]
        rows.append(ResponseExample(f"{word} {way} by {n} million in the quarter of the company", f"{word} {way}"))
    return Dataset(tuple(rows), (), "pairs")


class Seen:
    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[StepEvent] = []
        self.epochs: list[EpochEvent] = []
        self.stop_after = stop_after

    def on_step(self, event: StepEvent) -> None:
        if self.stop_after is not None and event.step > self.stop_after:
            raise KeyboardInterrupt
        self.steps.append(event)

    def on_epoch(self, event: EpochEvent) -> None:
        self.epochs.append(event)


def job(base: Path, out: Path, *observers: Seen, method: Any = "qlora", **choices: Any) -> FineTuningJob:
    return FineTuningJob(
        data=(TaskData(SUMMARY, pairs(64), pairs(6, start=1000)),),
        out=out,
        base_model=str(base),
        max_tokens=32,
        adapter=AdapterOptions(method=method, rank=8),
        training=TrainingOptions(epochs=3, batch_size=8, learning_rate=2e-2, validation=0.34, **choices),
        observers=observers,
    )


def adapted(base: Path) -> AdaptedModel:
    loaded = load_base(ModelConfig(base=str(base), max_tokens=32), SUMMARY, 0)
    config = AdapterConfig(
        rank=4, alpha=8, dropout=0.0, target_modules="all-linear", trained_factors="AB", layers="all"
    )
    return adapt(loaded, config, SUMMARY, seed=0)


def test_only_the_answer_is_learned_and_a_long_text_is_cut_but_never_the_question() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "[SEP]"
    rows = instruction_prompts(tokenizer, ["profit rises", "sales " * 50], ["profit", "loss falls"], max_tokens=10)
    assert rows.labels is not None
    for ids, labels, answer in zip(rows.input_ids, rows.labels, (["profit"], ["loss", "falls"]), strict=True):
        learned = labels[labels != IGNORED].tolist()
        assert tokenizer.convert_ids_to_tokens(learned) == [*answer, "[SEP]"]
        assert learned == ids[-len(learned) :].tolist(), "each is the next token of the place it stands at"
        assert np.flatnonzero(labels != IGNORED).tolist() == list(range(ids.size - 1 - len(learned), ids.size - 1))
    short, long = summary_prompts(tokenizer, ["", "sales " * 50], max_tokens=10)
    assert long.size == short.size + 10
    assert tokenizer.decode(long).startswith(tokenizer.decode(tokenizer(INSTRUCTION)["input_ids"][1:-1]))


def test_its_loss_is_the_one_that_transformers_computes(base: Path) -> None:
    model = adapted(base)
    tokens = model.encode_dataset(pairs(1))
    batch = tokens.batch([0])
    assert batch.labels is not None
    theirs = torch.cat([torch.tensor([[IGNORED]]), batch.labels[:, :-1]], dim=1)
    with torch.no_grad():
        ours = example_losses(model.logits(batch), batch.labels)
        expected = model.base.model(input_ids=batch.input_ids, labels=theirs).loss
    torch.testing.assert_close(ours.squeeze(), expected)


def test_what_is_written_does_not_depend_on_the_other_texts_of_a_batch(base: Path) -> None:
    model = adapted(base)
    texts = ["profit rises", "sales of the bank falls by 25 million in the quarter", "loss"]
    together = summarise(model, texts, max_new_tokens=8)
    assert together == [summarise(model, [text], max_new_tokens=8)[0] for text in texts]


@pytest.fixture(scope="module", autouse=True)
def few_rows_may_choose() -> Iterator[None]:
    """Small data sets keep the tests short. They are large enough to choose an epoch by here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.data.splits.FEWEST_HELD_OUT", 16)
        yield


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FineTuningResult, Seen]:
    seen = Seen()
    return finetune(job(base, tmp_path_factory.mktemp("run") / "out", seen)), seen


def test_qlora_of_a_decoder_lowers_the_loss_on_rows_it_did_not_see(trained: tuple[FineTuningResult, Seen]) -> None:
    outcome, seen = trained
    held = [event.metrics["loss"] for event in seen.epochs]
    assert len(held) == 3
    assert held == sorted(held, reverse=True)
    assert held[-1] < held[0] - 0.1
    assert seen.steps[-1].loss < seen.steps[0].loss - 0.5
    assert outcome.train_metrics["best_epoch"] == 1 + held.index(min(held))
    assert 0.0 <= outcome.measured["rouge_l"] <= 1.0


def test_every_step_is_told_with_what_the_tracker_needs(trained: tuple[FineTuningResult, Seen]) -> None:
    _, seen = trained
    steps = -(-42 // 8)  # 64 rows, 22 of them held out
    assert [event.step for event in seen.steps] == list(range(1, 3 * steps + 1))
    assert [event.epoch for event in seen.steps] == [1] * steps + [2] * steps + [3] * steps
    assert sum(event.examples for event in seen.steps) == 3 * 42
    for event in seen.steps:
        assert event.gradient_norm is not None
        assert event.gradient_norm > 0
        assert event.update_norm > 0 or event.learning_rate == 0
        assert event.tokens > 8 * 10
    rates = [event.learning_rate for event in seen.steps]
    assert rates[-1] < 0.1 * max(rates), "the cosine's end"


def test_parameters_are_counted_as_numbers_not_as_packed_bytes(
    trained: tuple[FineTuningResult, Seen], base: Path
) -> None:
    plain = LlamaForCausalLM.from_pretrained(base)
    expected = sum(p.numel() for p in plain.parameters()) + trained[0].trainable_parameters
    assert trained[0].total_parameters == expected


def test_the_adapter_it_leaves_writes_the_same_again(trained: tuple[FineTuningResult, Seen]) -> None:
    outcome, _ = trained
    assert not (outcome.adapter.parent / "checkpoints").exists()
    first, _, _ = load_adapter(outcome.adapter)
    second, _, _ = load_adapter(outcome.adapter)
    texts = [example.text for example in pairs(3, start=2000).examples if isinstance(example, ResponseExample)]
    assert summarise(first, texts, 8) == summarise(second, texts, 8)
    assert any(summarise(first, texts, 8))


def test_a_training_that_was_cut_continues_at_its_last_epoch(base: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        finetune(job(base, tmp_path / "out", Seen(stop_after=8)))
    seen = Seen()
    outcome = finetune(job(base, tmp_path / "out", seen))
    assert [event.step for event in seen.steps] == list(range(7, 19))
    assert [event.epoch for event in seen.epochs] == [2, 3]
    assert outcome.train_metrics["epochs"] == 3


def test_lora_of_a_decoder_takes_the_projects_own_loop(base: Path, tmp_path: Path) -> None:
    seen = Seen()
    outcome = finetune(job(base, tmp_path / "out", seen, method="lora"))
    assert seen.steps[-1].loss < seen.steps[0].loss - 0.5
    assert outcome.method == "lora"


def test_too_little_memory_is_refused_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    asked = job(base, tmp_path / "out")
    with pytest.raises(ModelError, match=r"max_memory_gb is 0\.01: this training needs about"):
        finetune(FineTuningJob(**{**vars(asked), "max_memory_gb": 0.01}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("asked", [False, True])
def test_activations_are_recomputed_only_if_the_job_asks_for_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    pytest.importorskip("bitsandbytes")
    calls = []
    original = transformers.modeling_utils.checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", counted)
    wanted = job(base, tmp_path / "out", gradient_checkpointing=asked)
    finetune(replace(wanted, training=replace(wanted.training, epochs=1)))
    assert bool(calls) is asked


def test_without_trl_it_says_how_to_install_it_and_trains_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    model = adapted(base)
    before = model.export()
    plan = LoopPlan(1, 0.01, 0.01, "adamw", "cosine", 0.0, 3, 4096, "float32", "loss", 0, "")
    with pytest.raises(ModelError, match=r"pip install 'fedfin\[qlora\]'"):
        instruct(model, model.encode_dataset(pairs(8)), None, plan, 4, tmp_path / "state")
    assert all((before[name] == value).all() for name, value in model.export().items())
    assert not (tmp_path / "state").exists()


def test_a_rate_at_which_the_loss_is_no_number_is_named(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    model = adapted(base)
    plan = LoopPlan(3, 1e30, 1e30, "adamw", "constant", 0.0, 3, 4096, "float32", "loss", 0, "")
    with pytest.raises(ConfigurationError, match=r"learning_rate 1e\+30: the loss is no number at step \d+: lower it"):
        instruct(model, model.encode_dataset(pairs(16)), None, plan, 4, tmp_path / "state")

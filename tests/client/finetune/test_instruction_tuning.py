"""One institution alone teaches a model to respond to prompts, with and without privacy."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from client.finetune import (
    AdapterOptions,
    FineTuningJob,
    FineTuningResult,
    PrivacyOptions,
    TaskData,
    TrainingOptions,
    finetune,
)
from client.inference.merge import merge_adapter
from client.inference.predictor import load_adapter
from common.adapters.losses import example_losses
from common.adapters.restore import load_adapter as load_model
from common.data.datasets import Dataset, ResponseExample
from common.errors import ConfigurationError, ModelError
from common.evaluation.answers import ResponseCounts
from common.evaluation.choosing import choose
from common.evaluation.evaluate import evaluate, prepare
from common.tokenization.batches import IGNORED, TokenizedSet
from tests.client.finetune.example_data import TinyModels

TASK = "instruction_tuning"
WORDS = {"falls": ("loss", "weak"), "rises": ("profit", "strong")}
TEMPLATE = "{% for m in messages %}{{ m['content'] + ' [MASK] ' }}{% endfor %}"


def rows(count: int, start: int = 0) -> Dataset:
    """Rows whose response follows from one word of the prompt."""
    found = []
    for number in range(start, start + count):
        response = sorted(WORDS)[number % 2]
        word = WORDS[response][number // 2 % 2]
        found.append(ResponseExample(f"{number} the bank {word}", response, f"customer {number % 7}", kind="the bank"))
    return Dataset(tuple(found), (), "rows")


def job(base: str, out: Path, method: Any = "lora", epochs: int = 4, **more: Any) -> FineTuningJob:
    return FineTuningJob(
        data=(TaskData(TASK, rows(48), rows(16, start=100)),),
        out=out,
        base_model=base,
        max_tokens=32,
        adapter=AdapterOptions(method=method, rank=8),
        training=TrainingOptions(epochs=epochs, batch_size=8, learning_rate=1e-2),
        **more,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def templated(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny decoder with a chat template of its own."""
    path = tmp_path_factory.mktemp("models") / "templated"
    tokenizer = AutoTokenizer.from_pretrained(models("writer"))
    AutoModelForCausalLM.from_pretrained(models("writer")).save_pretrained(path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def trained(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> FineTuningResult:
    return finetune(job(models("writer"), tmp_path_factory.mktemp("run") / "out", epochs=12))


def test_it_learns_to_answer_with_the_labels_and_the_saved_adapter_answers_alike(trained: FineTuningResult) -> None:
    measured = trained.measured
    assert measured["valid_answers"] > 0.9
    assert measured["accuracy"] > 0.6
    assert set(measured) == {"perplexity", "accuracy", "macro_f1", "valid_answers", "log_likelihood"}
    predictor = load_adapter(trained.adapter)
    test = rows(16, start=100)
    asked = [example.turns for example in test.examples if isinstance(example, ResponseExample)]
    given = predictor.respond(asked, max_new_tokens=4)
    right = [
        text == each.response
        for text, each in zip(given, test.examples, strict=True)
        if isinstance(each, ResponseExample)
    ]
    assert sum(right) / 16 == measured["accuracy"]
    assert predictor.predict([turns[-1][1] for turns in asked[:2]]) == given[:2]
    assert predictor.evaluate(test).accuracy == pytest.approx(measured["accuracy"])


def test_a_choice_is_a_declared_answer_and_the_one_that_the_model_learned(trained: FineTuningResult) -> None:
    model, _, _ = load_model(trained.adapter)
    asked = [example for example in rows(16, start=100).examples if isinstance(example, ResponseExample)]
    chosen = choose(model, [example.turns for example in asked], ("the bank rises", "rises", "falls"))
    assert sum(answer == example.response for answer, example in zip(chosen, asked, strict=True)) > 9
    assert choose(model, [], ("rises", "falls")) == []


def test_the_template_is_kept_with_the_adapter_and_prediction_uses_that_one(templated: str, tmp_path: Path) -> None:
    done = finetune(job(templated, tmp_path / "out", epochs=1))
    kept = done.adapter / "chat_template.jinja"
    assert kept.read_text() == TEMPLATE
    kept.write_text(TEMPLATE.replace("[MASK]", "[UNK]"))
    model, _, _ = load_model(done.adapter)
    ids = model.encode(["profit"]).input_ids[0]
    assert model.base.tokenizer.decode(ids) == "profit [UNK]"


def test_scores_of_the_responses_alone_are_those_of_all_tokens(trained: FineTuningResult) -> None:
    model, _, _ = load_model(trained.adapter)
    batch = model.encode_dataset(rows(3)).batch([0, 1, 2])
    assert batch.labels is not None
    with torch.no_grad():
        few = model.logits(batch)
        every = model.base.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    torch.testing.assert_close(few, every[batch.labels != IGNORED])
    torch.testing.assert_close(example_losses(few, batch.labels), example_losses(every, batch.labels))


def test_it_loads_in_plain_peft_and_merged_in_plain_transformers(trained: FineTuningResult, tmp_path: Path) -> None:
    asked = "101 the bank profit"
    expected = load_adapter(trained.adapter).predict([asked])[0]
    base = AutoModelForCausalLM.from_pretrained(trained.base_model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        plain = peft.PeftModel.from_pretrained(base, trained.adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.base_model)
    tokenizer.chat_template = (trained.adapter / "chat_template.jinja").read_text()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        written = plain.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    assert tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip() == expected
    assert merge_adapter(trained.adapter, tmp_path / "merged").startswith("transformers.AutoModelForCausalLM")
    whole = pipeline("text-generation", model=str(tmp_path / "merged"), device="cpu")
    told = whole([{"role": "user", "content": asked}], max_new_tokens=4, do_sample=False)
    assert told[0]["generated_text"][-1]["content"].strip() == expected, "the merged tokenizer has the template"


@pytest.mark.parametrize(("family", "method"), [("writer", "lora"), ("bart", "lora"), ("writer", "qlora")])
def test_with_privacy_the_ledger_is_charged_and_epsilon_holds(
    models: TinyModels, tmp_path: Path, family: str, method: str
) -> None:
    done = finetune(job(models(family), tmp_path / "out", method, 1, privacy=PrivacyOptions(epsilon=8.0)))
    assert done.privacy is not None
    assert 0 < done.privacy.epsilon <= 8.0
    assert done.measured["perplexity"] > 1
    assert (tmp_path / "out" / "ledger.jsonl").exists()


@pytest.mark.parametrize(("family", "method"), [("t5", "lora"), ("writer", "qlora")])
def test_encoder_decoders_and_four_bits_are_trained_too(
    models: TinyModels, tmp_path: Path, family: str, method: str
) -> None:
    done = finetune(job(models(family), tmp_path / "out", method, 1))
    assert 0 <= done.measured["accuracy"] <= 1
    assert len(done.predict(["the bank profit"])) == 1


def test_held_out_rows_choose_the_epoch_by_the_loss_and_only_test_rows_are_written_for(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.data.splits.FEWEST_HELD_OUT", 8)
    asked: list[int] = []

    def written(_: object, prompts: TokenizedSet, __: int) -> list[str]:
        asked.append(len(prompts))
        return [""] * len(prompts)

    monkeypatch.setattr("common.evaluation.evaluate.write", written)
    chosen = job(models("writer"), tmp_path / "out", epochs=2)
    done = finetune(replace(chosen, training=replace(chosen.training, validation=0.25)))
    assert done.train_metrics["validation_log_likelihood"] < 0
    assert asked == [16]


def test_settings_of_generation_beside_the_base_model_change_no_response(
    models: TinyModels, trained: FineTuningResult
) -> None:
    predictor = load_adapter(trained.adapter)
    asked = [f"{word} and the bank of the quarter" for word in ("profit", "loss", "weak", "strong", "sales")]
    plain = predictor.predict(asked)
    model = predictor.model.base.model
    penalised = GenerationConfig(
        repetition_penalty=9.0,
        min_length=60,
        num_beams=3,
        do_sample=True,
        temperature=2.0,
        bos_token_id=3,
        eos_token_id=4,
        pad_token_id=0,
    )
    model.generation_config = penalised
    assert predictor.predict(asked) == plain
    assert model.generation_config is penalised, "a merged model keeps them"


def test_customers_travel_with_the_tokens(models: TinyModels, trained: FineTuningResult) -> None:
    model, _, _ = load_model(trained.adapter)
    assert model.encode_dataset(rows(14)).customers == 7


def test_the_loss_alone_is_measured_without_writing(trained: FineTuningResult) -> None:
    model, _, _ = load_model(trained.adapter)
    counts = evaluate(model, prepare(model, rows(4)), writes=False)
    assert isinstance(counts, ResponseCounts)
    assert not counts.answers
    assert counts.tokens == 8, "a word and the end of the turn, of each row"


def test_a_base_model_that_cannot_write_and_other_tasks_are_refused(
    models: TinyModels, tmp_path: Path, trained: FineTuningResult
) -> None:
    with pytest.raises(ModelError, match=r"it cannot write text: use a decoder such as smollm2"):
        finetune(job(models("bert"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError, match="max_new_tokens is 512"):
        load_adapter(trained.adapter).respond([(("user", "profit"),)], max_new_tokens=512)

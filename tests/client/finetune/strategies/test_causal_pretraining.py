"""A decoder reads a domain: each next token is guessed, and nothing is trained but new rows and the adapter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from client.finetune.job import FineTuningJob, TaskData, TrainingOptions
from client.finetune.strategies import continual_pretraining
from client.finetune.strategies.continual_pretraining import objective
from client.finetune.strategies.domain_terms import mine
from client.finetune.strategies.single_task import run as finetune_one
from common.adapters.adapted_model import adapt
from common.adapters.restore import load_adapter
from common.base_models.extend import extend
from common.base_models.load import load_base
from common.base_models.provenance import read_provenance
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.evaluation.evaluate import evaluate_language_model
from common.tasks import task
from common.tokenization.batches import IGNORED
from common.tokenization.language_modelling import next_token_labels
from tests.client.finetune.example_data import save_tiny_writer
from tests.client.finetune.strategies import test_continual_pretraining
from tests.client.finetune.strategies.test_continual_pretraining import corpus, labelled
from tests.tiny_models import VOCABULARY, save_tiny_model, tiny_tokenizer

KIND = task("causal_language_modelling")


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("decoder")
    base = directory / "base"
    save_tiny_writer(base, request.param, hidden_size=32)
    data = (TaskData(objective(str(base)), corpus(), corpus(20, seed=1)),)
    job = test_continual_pretraining.job(directory, data=data)
    return job, continual_pretraining.run(job)


def test_a_decoder_reads_the_domain_better_afterwards_and_everything_is_measured(adapted) -> None:
    _, outcome = adapted
    before, after = outcome.measured["before"], outcome.measured["after"]
    assert outcome.tasks == ("causal_language_modelling",)
    assert after["domain"]["perplexity"] < before["domain"]["perplexity"]
    assert after["domain"]["loss_per_word"] < before["domain"]["loss_per_word"]
    assert after["domain"]["tokens_per_word"] < before["domain"]["tokens_per_word"]
    rise = after["general"]["loss_per_word"] / before["general"]["loss_per_word"] - 1
    assert outcome.measured["general_loss_rise"] == pytest.approx(rise)
    assert outcome.measured["new_tokens"] == 2


def test_nothing_but_the_new_rows_and_the_adapter_is_trained(adapted) -> None:
    job, outcome = adapted
    old = LlamaForCausalLM.from_pretrained(job.base_model).state_dict()
    start = LlamaForCausalLM.from_pretrained(job.out / "extended").state_dict()
    new = LlamaForCausalLM.from_pretrained(outcome.base_model).state_dict()
    tables, rows = {"model.embed_tokens.weight", "lm_head.weight"}, len(VOCABULARY)
    for name, value in new.items():
        if name in tables:
            assert torch.equal(value[:rows], old[name]), name
            assert not torch.equal(value[rows:], start[name][rows:]), name
        elif "norm" in name:
            assert torch.equal(value, old[name]), name
        else:
            change = (value - old[name]).double()
            assert 0 < torch.linalg.matrix_rank(change, tol=1e-4 * float(change.norm())) <= 16, name
    tables_trained = 1 if LlamaForCausalLM.from_pretrained(job.base_model).config.tie_word_embeddings else 2
    trained = load_adapter(outcome.adapter)[0].trainable()
    assert sum(p.numel() for name, p in trained.items() if "lora" not in name) == tables_trained * 2 * 32


def test_the_new_base_model_computes_what_the_adapter_does_and_perplexity_is_the_usual_one(adapted) -> None:
    job, outcome = adapted
    texts = [example.text for example in job.data[0].test.examples]
    with_adapter = load_adapter(outcome.adapter)[0]
    tokens = with_adapter.with_lm_labels(with_adapter.encode(texts))
    model = LlamaForCausalLM.from_pretrained(outcome.base_model).eval()
    total, count = 0.0, 0
    for ids in tokens.input_ids:
        row = torch.from_numpy(ids)[None]
        with torch.no_grad():
            total += float(model(input_ids=row, labels=row).loss) * (ids.size - 1)
        count += ids.size - 1
    usual = np.exp(total / count)
    assert evaluate_language_model(with_adapter, tokens).perplexity == pytest.approx(usual, rel=1e-4)
    assert outcome.measured["after"]["domain"]["perplexity"] == pytest.approx(usual, rel=1e-4)


def test_finetune_and_predict_work_on_what_comes_out(adapted, tmp_path: Path) -> None:
    _, outcome = adapted
    rows = TaskData(task("document_classification"), labelled(), labelled(20, seed=1))
    training = TrainingOptions(epochs=6, batch_size=8, learning_rate=0.01, validation=0.0)
    job = FineTuningJob(data=(rows,), out=tmp_path, base_model=outcome.base_model, max_tokens=32, training=training)
    tuned = finetune_one(job)
    assert tuned.measured["accuracy"] > 0.9
    assert tuned.predict(["loss falls falls loss falls", "profit rises rises profit profit"]) == ["down", "up"]
    assert read_provenance(outcome.base_model).private_text


def test_what_follows_is_the_label_and_the_last_token_has_none(tmp_path: Path) -> None:
    save_tiny_writer(tmp_path / "base", hidden_size=32)
    base = load_base(ModelConfig(base=str(tmp_path / "base"), max_tokens=16), KIND, 0)
    model = adapt(
        base,
        AdapterConfig(rank=1, alpha=1, dropout=0, trained_factors="AB", target_modules="task", layers="all"),
        KIND,
        seed=0,
    )
    tokens = next_token_labels(model.encode(["profit rises", "loss"]))
    for ids, labels in zip(tokens.input_ids, tokens.labels or (), strict=True):
        assert labels.tolist() == [*ids[1:].tolist(), IGNORED]
    batch = tokens.batch([0, 1])
    assert model.logits(batch).shape == (sum(len(ids) - 1 for ids in tokens.input_ids), len(VOCABULARY))


def test_an_encoder_is_not_asked_for_the_next_word(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "bert")
    assert objective(str(tmp_path / "bert")).name == "masked_language_modelling"
    with pytest.raises(ModelError, match="choose a decoder"):
        load_base(ModelConfig(base=str(tmp_path / "bert"), max_tokens=16), KIND, 0)


def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level vocabulary of single bytes and of a blank with a letter: a word's first token holds the blank."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    ids = {token: number for number, token in enumerate([*alphabet, *(f"Ġ{letter}" for letter in letters), "[PAD]"])}
    tokenizer = Tokenizer(models.BPE(ids, [("Ġ", letter) for letter in letters]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


def test_with_byte_level_tokens_a_new_word_brings_its_blank_and_reads_back_as_it_was() -> None:
    tokenizer = byte_level()
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=1, num_key_value_heads=1)  # fmt: skip
    model = LlamaForCausalLM(config)
    pieces = tokenizer(" ebitda")["input_ids"]
    table = model.model.embed_tokens.weight.detach().clone()
    assert extend(model, tokenizer, ["ebitda"]) == [" ebitda"]
    text = "the ebitda of ebitdas"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == 3 + 1 + 2 + 1 + 1
    assert tokenizer.decode(ids) == text
    assert torch.allclose(model.model.embed_tokens.weight[-1], table[pieces].mean(0))


def test_words_are_mined_in_the_case_that_the_tokenizer_keeps() -> None:
    texts = [f"the EBITDA rises {n}" for n in range(50)]
    assert "EBITDA" in mine(texts, byte_level(), 10).words
    assert "ebitda" in mine(texts, tiny_tokenizer(), 10).words

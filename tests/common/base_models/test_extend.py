"""More words for a base model: their first embeddings, the rows that are trained, and how these are saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.base_models.extend import extend, save_base, tokens_per_word, write_extended_base
from common.base_models.pretrained import load_pretrained
from common.base_models.provenance import Provenance, read_provenance, refuse_private_base
from common.config.run import parse_run
from common.errors import ConfigurationError
from common.tasks import task
from common.tokenization.language_modelling import mask_tokens
from tests.tiny_models import VOCABULARY, save_tiny_model, tiny_adapted

KIND = task("masked_language_modelling")
TERMS = ["ebitda", "noncontrolling interest", "bank", " ebitda ", "goodwill"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "bert2", layers=2)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_new_embedding_is_the_mean_of_the_pieces_it_replaces(tmp_path: Path, family: str) -> None:
    model, tokenizer = load_pretrained(str(save_tiny_model(tmp_path / "m", family)))
    before = model.get_input_embeddings().weight.detach().clone()
    pieces = tokenizer("ebitda", add_special_tokens=False)["input_ids"]
    added = extend(model, tokenizer, TERMS)
    assert added == ["ebitda", "noncontrolling interest", "goodwill"]  # "bank" was one token already
    after = model.get_input_embeddings().weight.detach()
    torch.testing.assert_close(after[len(VOCABULARY)], before[pieces].mean(0))
    torch.testing.assert_close(after[: len(VOCABULARY)], before)
    assert tokenizer("ebitda", add_special_tokens=False)["input_ids"] == [len(VOCABULARY)]
    assert len(tokenizer) == after.shape[0]


def test_a_term_is_matched_as_a_whole_word_in_any_case(tmp_path: Path, base: Path) -> None:
    model, tokenizer = load_pretrained(str(base))
    extend(model, tokenizer, ["ebitda"])
    assert tokenizer("EBITDA", add_special_tokens=False)["input_ids"] == [len(VOCABULARY)]
    assert len(VOCABULARY) not in tokenizer("ebitdas", add_special_tokens=False)["input_ids"]


def test_texts_take_fewer_tokens_a_word_afterwards(base: Path) -> None:
    model, tokenizer = load_pretrained(str(base))
    texts = ["ebitda rises", "bank goodwill"]
    before = tokens_per_word(tokenizer, texts)
    assert before == (6 + 1 + 1 + 8) / 4
    extend(model, tokenizer, TERMS)
    assert tokens_per_word(tokenizer, texts) == 1.0


def test_only_the_new_rows_train_and_they_are_saved_without_the_table(tmp_path: Path, base: Path) -> None:
    added = write_extended_base(str(base), TERMS, tmp_path / "bert3", private=False)
    model = tiny_adapted(tmp_path, which=KIND, labels=0, blocks=3, trained_factors="AB", new_tokens=len(added))
    [name] = [name for name in model.trainable() if "token" in name]
    assert model.trainable()[name].shape == (len(added), 32)
    table: Any = model.base.model.get_submodule("encoder.embeddings.word_embeddings")
    frozen = table.original_module.weight.detach().clone()
    start = model.trainable()[name].detach().clone()
    tokens = mask_tokens(model.encode(["ebitda of bank rises goodwill"] * 8), model.base.tokenizer, 0)
    train(model, tokens, DpTrainingPlan(3, 0.5, 0.05, 0.05, "adam", 4096, None, 0), None)
    assert not torch.equal(model.trainable()[name].detach(), start)
    torch.testing.assert_close(table.original_module.weight, frozen)
    model.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 4 * model.parameters_trained + 8192
    kept = {name: value.copy() for name, value in model.export().items()}
    encoder: Any = model.merge().model.encoder
    merged = encoder.get_input_embeddings().weight.detach()
    np.testing.assert_allclose(merged[-len(added) :].numpy(), kept[name], rtol=1e-6)


def test_logits_after_merging_are_those_with_the_adapter(tmp_path: Path, base: Path) -> None:
    added = write_extended_base(str(base), TERMS, tmp_path / "bert3", private=False)
    model = tiny_adapted(tmp_path, which=KIND, labels=0, blocks=3, trained_factors="AB", new_tokens=len(added))
    tokens = mask_tokens(model.encode(["ebitda of bank rises goodwill"] * 8), model.base.tokenizer, 0)
    train(model, tokens, DpTrainingPlan(3, 0.5, 0.05, 0.05, "adam", 4096, None, 0), None)
    batch = tokens.batch([0, 1])
    with torch.no_grad():
        expected = model.logits(batch)
        merged: Any = model.merge().model
        merged.tie()
        torch.testing.assert_close(
            merged(batch.input_ids, batch.attention_mask, batch.labels != -100).logits, expected, rtol=1e-4, atol=1e-4
        )


def test_a_base_that_carries_private_text_is_refused_in_a_federation(tmp_path: Path, base: Path) -> None:
    write_extended_base(str(base), TERMS, tmp_path / "private", private=True)
    with pytest.raises(ConfigurationError, match="private text"):
        refuse_private_base(str(tmp_path / "private"))
    # A model made from it stays private, whatever is added later.
    write_extended_base(str(tmp_path / "private"), ["amortization"], tmp_path / "later", private=False)
    with pytest.raises(ConfigurationError, match="private text"):
        refuse_private_base(str(tmp_path / "later"))
    write_extended_base(str(base), TERMS, tmp_path / "public", private=False)
    refuse_private_base(str(tmp_path / "public"))
    refuse_private_base(str(base))
    assert read_provenance(str(tmp_path / "public")).new_tokens == 3


def test_a_directory_is_replaced_whole(tmp_path: Path, base: Path) -> None:
    model, tokenizer = load_pretrained(str(base))
    for number in (1, 2):
        save_base(model, tokenizer, tmp_path / "out", Provenance("x", number, False))
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["new_tokens"] == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_new_rows_are_refused_under_differential_privacy() -> None:
    tables = {
        "run": {"name": "x", "seed": 1, "rounds": 1},
        "task": {"name": KIND.name},
        "adapter": {"new_tokens": 3},
        "training": {"local_steps": 1, "sampling_rate": 0.5, "learning_rate": 1.0},
        "privacy": {"mode": "high", "delta": 1e-5},
    }
    with pytest.raises(ConfigurationError, match="new_tokens"):
        parse_run(tables, "x.toml")

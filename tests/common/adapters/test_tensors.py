"""The numbers of an adapter: where they start, and that the rows of new words learn from each use of their token."""

from pathlib import Path

import numpy as np
import torch
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from transformers import LlamaForCausalLM

from common.adapters.adapted_model import adapt
from common.adapters.tensors import initial_tensors, seeded, wire_name
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.tasks import task
from tests.tiny_models import VOCABULARY, save_tiny_model, tiny_config

KIND = task("causal_language_modelling")


def test_a_token_used_thousands_of_times_gets_the_gradient_of_each_use_in_bfloat16_too(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "llama", "llama")
    LlamaForCausalLM(tiny_config("llama", 2, 32)).save_pretrained(path)
    base = load_base(ModelConfig(max_tokens=64, base=str(path), dtype="bfloat16"), KIND, 0)
    model = adapt(
        base,
        AdapterConfig(
            rank=1, alpha=1, dropout=0.0, trained_factors="AB", target_modules="all-linear", layers="all", new_tokens=2
        ),
        KIND,
        seed=1,
    )
    [rows] = [
        layer
        for layer in model.module.modules()
        if isinstance(layer, TrainableTokensLayer) and isinstance(layer.get_base_layer(), torch.nn.Embedding)
    ]
    last = len(VOCABULARY) - 1
    out = rows(torch.full((1, 3840), last))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    gradient = rows.trainable_tokens_delta["default"].grad
    assert gradient is not None
    assert gradient[1].tolist() == [3840.0] * 32
    assert gradient[0].tolist() == [0.0] * 32


def test_the_start_is_zero_for_b_and_last_layers_and_of_the_seed_for_the_rest() -> None:
    assert not initial_tensors(1, "x.lora_B.weight", (4, 2), zero=False).any()
    assert not initial_tensors(1, "classifier.weight", (4, 2), zero=True).any()
    assert initial_tensors(1, "norm.weight", (3,), zero=False).tolist() == [1.0, 1.0, 1.0]
    first = initial_tensors(1, "x.lora_A.weight", (4, 2), zero=False)
    assert np.array_equal(first, seeded(1, "x.lora_A.weight", (4, 2)))
    assert not np.array_equal(first, seeded(2, "x.lora_A.weight", (4, 2)))


def test_the_variance_of_the_start_is_one_over_the_fan_in() -> None:
    values = seeded(3, "x", (400, 100))
    assert abs(float(values.var()) * 100 - 1) < 0.02
    assert float(np.abs(values).max()) <= (3 / 100) ** 0.5


def test_names_on_the_wire_are_those_that_peft_saves() -> None:
    assert wire_name("base_model.model.q.lora_A.default.weight") == "base_model.model.q.lora_A.weight"
    assert wire_name("base_model.model.head.modules_to_save.default.bias") == "base_model.model.head.bias"
    assert wire_name("prompt_encoder.default.embedding.weight") == "prompt_embeddings"

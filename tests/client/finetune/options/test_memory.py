import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from client.finetune.job import AdapterOptions, TrainingOptions
from client.finetune.options.defaults import BaseFacts, ResolvedSettings, fill_in
from client.finetune.options.memory import MemoryEstimate, estimate_memory, memory_limit, refuse_beyond
from common.adapters.adapted_model import adapt
from common.base_models.architecture import read_config
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import TASKS, Task
from tests.tiny_models import save_tiny_model

ADAPTER = AdapterConfig(rank=4, alpha=8, dropout=0.05, target_modules="all-linear", trained_factors="AB", layers="all")
SENTIMENT, SUMMARY = TASKS["sentiment_analysis"], TASKS["document_summarization"]


def settings(
    method: str = "lora",
    rank: int = 4,
    batch: int = 8,
    tokens: int = 16,
    most: int = 8192,
    again: bool = False,
    layers: str | None = None,
) -> ResolvedSettings:
    lora = {} if method in ("prefix_tuning", "p_tuning") else {"rank": rank, "layers": layers}
    adapter = AdapterOptions(method=method, **lora)
    training = TrainingOptions(batch_size=batch, max_batch_tokens=most, gradient_checkpointing=again)
    return fill_in(adapter, training, (SENTIMENT,), BaseFacts(32, 4096), 100, max_tokens=tokens)


def estimate(name: str, path: Path, task: Task, how: ResolvedSettings) -> MemoryEstimate:
    return estimate_memory(name, read_config(name, path), task, how)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama"])
def test_weights_and_trained_numbers_are_those_of_the_model_itself(tmp_path: Path, family: str) -> None:
    path = save_tiny_model(tmp_path / family, family)
    need = estimate(family, path, SENTIMENT, settings())
    base = load_base(ModelConfig(max_tokens=64, base=str(path)), SENTIMENT, 3)
    assert need.weights == pytest.approx(4 * sum(p.numel() for p in base.model.parameters()), rel=0.05)
    model = adapt(base, ADAPTER, SENTIMENT, seed=0)
    heads = sum(model.trainable()[name].numel() for name in model.head_names())
    assert need.trainable == model.parameters_trained - heads
    assert need.trained == 16 * need.trainable


@pytest.mark.parametrize(("family", "batch"), [("bert", 4), ("bert", 16), ("llama", 8)])
def test_what_a_batch_keeps_for_the_backward_pass_is_estimated_to_a_third(
    tmp_path: Path, family: str, batch: int
) -> None:
    path = save_tiny_model(tmp_path / family, family, hidden=256, layers=3)
    base = load_base(ModelConfig(max_tokens=64, base=str(path)), SENTIMENT, 3)
    model = adapt(base, ADAPTER, SENTIMENT, seed=0)
    frozen = {p.untyped_storage().data_ptr() for p in base.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.full((batch, 64), 10)
    model.train_mode()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = base.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    expected = estimate(family, path, SENTIMENT, settings(batch=batch, tokens=64)).activations
    assert output.logits.shape == (batch, 3)
    assert 0.67 < expected / sum(kept.values()) < 1.5


def test_fewer_tokens_at_once_blocks_and_recomputing_need_less(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "bert", "bert", layers=4)

    def activations(batch: int = 8, tokens: int = 64, **changed: Any) -> int:
        return estimate("bert", path, SENTIMENT, settings(batch=batch, tokens=tokens, **changed)).activations

    plain = activations()
    assert activations(batch=4) == plain // 2
    assert activations(most=128) == plain // 4
    assert activations(layers="last:1") == plain // 4
    assert activations(again=True) < plain // 2
    assert activations(tokens=32) == plain // 2


def test_four_bits_take_about_an_eighth_of_the_linear_layers_and_prompts_train_little(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "llama", "llama", hidden=128)
    whole, four = (estimate("llama", path, SUMMARY, settings(method)) for method in ("lora", "qlora"))
    assert 0.12 < four.weights / whole.weights < 0.3, "embeddings stay in 16 bits"
    prompt = estimate("llama", path, SUMMARY, settings("p_tuning"))
    assert prompt.trainable == 8 * 128


def test_a_model_that_cannot_do_the_task_is_one_line(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "bert", "bert")
    with pytest.raises(ModelError, match=r"base model bert \(bert\): it cannot write text: use a decoder"):
        estimate("bert", path, SUMMARY, settings())
    (path / "config.json").write_text('{"model_type": "no such"}')
    with pytest.raises(ModelError, match="transformers does not know its architecture, no such: choose another"):
        estimate("bert", path, SENTIMENT, settings())


def test_what_will_not_fit_is_refused_with_the_estimate_and_a_way_out(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "bert", "bert")
    need = estimate("tiny", path, SENTIMENT, settings())
    refuse_beyond(need, need.total / 1e9 + 0.001)
    large = replace(need, activations=10**12, program=0)
    with pytest.raises(ModelError, match=r"max_memory_gb is 2: this training needs about 1000 GB .* --batch-size"):
        refuse_beyond(large, 2.0)
    with pytest.raises(ModelError, match="--adapter qlora"):
        refuse_beyond(replace(need, weights=10**12, program=0), 2.0)


def test_a_training_that_passes_its_limit_is_stopped_with_one_line_and_the_limit_is_lifted() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    stopped = pytest.raises(ModelError, match="the training reached it and was stopped: choose a smaller --batch-size")
    with stopped, memory_limit(0.001, "cpu"):
        torch.ones(500_000_000)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.ones(50_000_000).sum() == 50_000_000
    with pytest.raises(ValueError, match="another"), memory_limit(100.0, "cpu"):
        raise ValueError("another")


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "llama"])
def test_recomputing_keeps_less_and_gives_the_same_gradients(tmp_path: Path, family: str) -> None:
    path = save_tiny_model(tmp_path / family, family, layers=4)

    def trained(again: bool) -> tuple[int, dict[str, torch.Tensor]]:
        model = adapt(load_base(ModelConfig(max_tokens=64, base=str(path)), SENTIMENT, 3), ADAPTER, SENTIMENT, seed=0)
        model.load({name: start + 0.1 for name, start in model.initial().items()})
        if again:
            model.recompute()
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(5)
        model.train_mode()
        ids = torch.arange(6, 6 + 4 * 32).reshape(4, 32) % 60 + 6
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.base.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum()
        total = sum(kept.values())
        loss.backward()
        return total, {name: p.grad for name, p in model.trainable().items() if p.grad is not None}

    (all_kept, expected), (some_kept, found) = trained(False), trained(True)
    assert some_kept < 0.5 * all_kept
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_where_nothing_can_be_computed_again_it_is_refused_and_not_counted_on(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "mpnet", "mpnet")
    model = adapt(load_base(ModelConfig(max_tokens=64, base=str(path)), SENTIMENT, 3), ADAPTER, SENTIMENT, seed=0)
    with pytest.raises(ModelError, match=r"\(mpnet\): it has no gradient checkpointing: leave it out"):
        model.recompute()
    with_it, without = (estimate("mpnet", path, SENTIMENT, settings(again=again)) for again in (True, False))
    assert with_it.activations == without.activations

"""A private training begins only if an example's gradient has the same bits in any company."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.dp import training
from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train, verify_training
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.feature_cache import FeatureCache
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import task
from tests.tiny_models import save_tiny_model, shaken, tiny_adapted

PLAN = DpTrainingPlan(1, 1.0, 0.1, 0.1, "sgd", 512, DpSettings(0.0, 1.0, 1.0, 1, 10.0), 0)


@pytest.fixture
def model(tmp_path: Path) -> AdaptedModel:
    return shaken(tiny_adapted(tmp_path, blocks=2, target_modules="all-linear", layers="all"))


def change_head(model: AdaptedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let the pooled features of a batch be `change`d before the head."""
    pool = model.base.model.pool
    setattr(model.base.model, "pool", lambda hidden, mask: change(pool(hidden, mask)))  # noqa: B010


def test_a_model_whose_examples_are_computed_by_themselves_is_verified_and_left_as_it_was(model: AdaptedModel) -> None:
    before = model.export()
    verify_training(model, PLAN)
    assert model.verified is not None
    assert all(np.array_equal(before[name], value) for name, value in model.export().items())
    assert all(parameter.grad is None for parameter in model.module.parameters())


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_head_that_compares_the_rows_of_a_batch_is_refused_in_one_line(tmp_path: Path, family: str) -> None:
    path = save_tiny_model(tmp_path / family, family, layers=1, hidden=16)
    base = load_base(ModelConfig(max_tokens=64, base=str(path), pooling="native"), task("sentiment_analysis"), labels=3)
    lora = AdapterConfig(rank=2, alpha=4, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="B")
    with pytest.raises(ModelError, match="its own head compares the rows of a batch"):
        verify_training(adapt(base, lora, task("sentiment_analysis"), seed=1), PLAN)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 1e-6 * x.mean(0),  # far below the tolerance of the first check
        lambda x: x * (1 + 1e-6 * (len(x) > 16)),
        lambda x: x + 1e-6 * torch.arange(len(x))[:, None],
    ],
)
def test_a_last_bit_that_depends_on_company_size_or_place_is_found(
    model: AdaptedModel, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    change_head(model, change)
    with pytest.raises(ModelError, match="depends on the examples beside it"):
        verify_training(model, PLAN)


def test_exactness_is_verified_at_every_adapter_that_is_sent(model: AdaptedModel) -> None:
    """A hub may send an adapter at which alone the others show."""
    cache = FeatureCache()
    verify_training(model, PLAN)
    bound = max(float(np.abs(value).max()) for value in model.export().values())
    model.load({name: value + 10 * bound for name, value in model.export().items()})
    weight = next(p for name, p in model.trainable().items() if name in model.head_names())
    change_head(model, lambda x: x + 1e-6 * x.mean(0) * (weight.detach().max() > 5 * bound))
    with pytest.raises(ModelError, match="depends on the examples beside it"):
        train(model, model.encode(["profit", "loss of bank"], [0, 1]), PLAN, SystemNoise(), cache)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_packaged_encoder_is_verified_at_short_lengths(dtype: Literal["float32", "bfloat16"]) -> None:
    """In bfloat16 its wide layers give a row other bits in 128 rows of tokens than in 512."""
    kind = task("sentiment_analysis")
    base = load_base(ModelConfig(max_tokens=16, dtype=dtype), kind, 3)
    config = AdapterConfig(
        rank=2, alpha=4, dropout=0.0, target_modules="all-linear", layers="last:1", trained_factors="B"
    )
    verify_training(adapt(base, config, kind, seed=0), PLAN)


def test_an_adapter_that_makes_nan_is_no_reason_to_refuse(model: AdaptedModel) -> None:
    """A gradient that is not finite counts as zero, whatever the company."""
    largest = np.finfo(np.float32).max
    model.load({name: np.full_like(value, largest) for name, value in model.export().items()})
    verify_training(model, PLAN)


def test_a_verified_adapter_is_not_verified_twice(model: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    verify_training(model, PLAN)
    train(model, model.encode(["profit", "loss of bank"], [0, 1]), PLAN, SystemNoise(), FeatureCache())
    trained = model.export()
    verify_training(model, PLAN)
    model.load(trained)
    monkeypatch.setattr(training, "verify_exactness", None)
    verify_training(model, PLAN)
    with pytest.raises(TypeError, match="not callable"):
        verify_training(model, replace(PLAN, max_batch_tokens=PLAN.max_batch_tokens + 64))


def test_a_change_that_no_trained_tensor_shows_is_verified_anew(
    model: AdaptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen A that is put in place, and another way to compute the backward pass."""
    model.save_pretrained(tmp_path / "adapter")
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    others = {name: 2 * value if ".lora_A." in name else value for name, value in kept.items()}
    trained, changes = model.export(), (lambda: model.restore(others), model.recompute)
    for change in changes:
        verify_training(model, PLAN)
        change()
        assert all(np.array_equal(trained[name], value) for name, value in model.export().items())
        with monkeypatch.context() as patched:
            patched.setattr(training, "verify_exactness", None)
            with pytest.raises((TypeError, ModelError)):
                verify_training(model, PLAN)

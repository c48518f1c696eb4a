"""Gradient reversal: the sign, the strength, and a representation in which two domains lie together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from client.finetune.job import TaskData, TrainingOptions
from client.finetune.strategies import domain_adversarial
from client.finetune.strategies.domain_adversarial import AdversarialJob, reversed_gradient, strength
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError
from common.tasks import task
from tests.client.finetune.strategies.test_continual_pretraining import labelled
from tests.tiny_models import save_tiny_model


def test_reversed_gradients_have_the_opposite_sign_and_the_values_stay() -> None:
    value = torch.randn(3, 4, requires_grad=True)
    weights = torch.randn(3, 4)
    (value * weights).sum().backward()
    plain = value.grad.clone()
    value.grad = None
    there = reversed_gradient(value, 0.5)
    assert torch.equal(there, value)
    (there * weights).sum().backward()
    torch.testing.assert_close(value.grad, -0.5 * plain)


def test_the_strength_rises_from_zero_to_its_most_as_in_the_paper() -> None:
    assert strength(0.0) == 0.0
    assert strength(0.5) == pytest.approx(2 / (1 + np.exp(-5)) - 1)
    assert strength(1.0, 0.3) == pytest.approx(0.3, rel=1e-3)


def other_domain(count: int = 60) -> Dataset:
    """The same labels' words, beside words of another domain."""
    rows = labelled(count, seed=3)
    return Dataset(tuple(Example(f"quarter euro {e.text} market", 0) for e in rows.examples), (), "other")


def test_the_domains_are_harder_to_tell_apart_and_the_task_is_learned(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "base")
    common = {
        "data": (TaskData(task("document_classification"), labelled(), labelled(20, seed=1)),),
        "base_model": str(tmp_path / "base"),
        "max_tokens": 32,
        "training": TrainingOptions(epochs=40, batch_size=16, learning_rate=0.003, validation=0.0),
        "strategy": "domain_adversarial",
        "other": other_domain(),
    }
    outcome = domain_adversarial.run(AdversarialJob(out=tmp_path / "out", max_strength=1.0, **common))
    apart = outcome.measured["domains_told_apart"]
    assert outcome.measured["accuracy"] > 0.9
    assert apart["before"] > 0.9
    assert [split["name"] for split in outcome.settings["inspection"]["splits"]] == ["train", "test", "other"]
    plain = domain_adversarial.run(AdversarialJob(out=tmp_path / "plain", max_strength=0.0, **common))
    assert apart["after"] < plain.measured["domains_told_apart"]["after"] - 0.1
    again = domain_adversarial.run(AdversarialJob(out=tmp_path / "again", max_strength=1.0, **common))
    name = "adapter_model.safetensors"
    assert (again.adapter / name).read_bytes() == (outcome.adapter / name).read_bytes()


def test_what_cannot_be_trained_so_is_refused(tmp_path: Path) -> None:
    rows = TaskData(task("document_classification"), labelled(), labelled(20, seed=1))
    with pytest.raises(ConfigurationError, match="fewer than two"):
        AdversarialJob(data=(rows,), out=tmp_path, strategy="domain_adversarial", other=Dataset((), (), "none"))

"""What an encoder still knows: an untouched one keeps its vectors, and one that was moved does not."""

from pathlib import Path

import numpy as np
import pytest

from client.finetune.job import TaskData
from client.finetune.strategies.encoder_watch import base_vectors, pooled_features, similarity, watch_encoder
from client.finetune.strategies.quality import lost_probes
from common.adapters.attach import attach
from common.base_models.load import load_base
from common.config.adapter import PromptConfig
from common.config.training import ModelConfig
from common.tasks import task
from tests.client.finetune.strategies.test_continual_pretraining import labelled
from tests.tiny_models import save_tiny_model, shaken, tiny_adapted

TEXTS = ["the net of a market", "profit rises in the quarter", "loss of the bank"]
PROBE = TaskData("document_classification", labelled(), labelled(20, seed=1))


def test_an_adapter_at_its_start_changes_nothing_and_a_moved_one_does(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path)
    found = watch_encoder(model, TEXTS, (PROBE,))
    assert found["similarity"] == pytest.approx(1.0)
    figures = found["probes"]["document_classification"]
    assert figures["before"] == figures["after"]
    before = shaken(model).export()
    moved = watch_encoder(model, TEXTS, ())
    assert moved["similarity"] < 0.99
    assert "probes" not in moved
    assert all((model.export()[name] == value).all() for name, value in before.items()), "the weights are put back"


def test_vectors_come_in_the_order_of_the_texts_and_equal_those_of_the_base_model(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path)
    vectors = pooled_features(model, model.encode(TEXTS))
    for number, text in enumerate(TEXTS):
        assert np.allclose(vectors[number], pooled_features(model, model.encode([text]))[0], atol=1e-5)
    assert similarity(vectors, base_vectors(model.base.name, TEXTS, model.base.max_tokens)) == pytest.approx(1.0)
    assert similarity(vectors, -vectors) == pytest.approx(-1.0)


def test_a_soft_prompt_leaves_the_encoder_as_it_is(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "base")
    kind = task("sentiment_analysis")
    base = load_base(ModelConfig(base=str(tmp_path / "base"), max_tokens=32), kind, 3)
    model = attach(base, PromptConfig(method="p_tuning", virtual_tokens=2), kind, seed=1)
    assert watch_encoder(model, TEXTS, ()) == {}


def test_a_linear_head_that_lost_more_than_two_points_is_told() -> None:
    watched = {"probes": {"x": {"before": {"accuracy": 0.80}, "after": {"accuracy": 0.77}}}}
    [warning] = lost_probes(watched)
    assert warning == "x: a linear head on the trained encoder is 3.0 points worse than before"
    assert lost_probes({"probes": {"x": {"before": {"accuracy": 0.80}, "after": {"accuracy": 0.79}}}}) == []
    assert lost_probes({}) == []

"""The frozen part computed once, and per-example gradients, equal those of the whole model."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from common.adapters.frozen_blocks import BlockSplit, FrozenFeatures, HeadSplit, split
from common.base_models.heads import FEATURE_NORM
from common.tasks import task
from tests.tiny_models import FAMILIES, shaken, soften_attention, tiny_adapted

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TEXTS = ["profit rises", "net loss of the bank widens in the quarter", "sales flat"]
SEQUENCE, TOKEN = task("sentiment_analysis"), task("financial_ner")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", ["last:1", "last:2", "none"])
@pytest.mark.parametrize(("pooling", "which"), [("mean", SEQUENCE), ("native", SEQUENCE), ("native", TOKEN)])
def test_the_frozen_part_computed_once_gives_the_whole_models_logits_and_gradients(
    path: Path, family: str, layers: str, pooling: Any, which: Any
) -> None:
    if family == "bart" and which is TOKEN:
        pytest.skip("transformers has no token head for BART")
    model = shaken(tiny_adapted(path, family=family, pooling=pooling, which=which, layers=layers, trained_factors="AB"))
    tokens = model.encode(TEXTS, [0, 1, 2])
    features = model.features(tokens, max_batch_tokens=64)  # one padded batch
    if features is None:
        assert family in {"t5", "bart"}
        return
    whole, part = tokens.batch([2, 0, 1]), features.batch(tokens, [2, 0, 1])
    direct, from_hidden = model.logits(whole), model.logits(part)
    real = whole.attention_mask.bool() if which is TOKEN else slice(None)
    assert (direct - from_hidden)[real].abs().max() < 1e-5
    assert (model.logits_from(part.hidden, part.attention_mask) - direct)[real].abs().max() < 1e-5
    weights = torch.linspace(-1, 1, direct[real].numel()).view(direct[real].shape)
    parameters = list(model.trainable().values())
    expected = torch.autograd.grad((direct[real] * weights).sum(), parameters)
    found = torch.autograd.grad((from_hidden[real] * weights).sum(), parameters)
    for one, other in zip(expected, found, strict=True):
        assert (one - other).norm() <= 1e-4 * one.norm() + 1e-7
    if layers == "none" and pooling == "mean":
        assert part.hidden is not None
        assert part.hidden.norm(dim=-1).tolist() == pytest.approx([FEATURE_NORM] * 3, rel=1e-5)


@pytest.mark.parametrize(("layers", "trained_blocks", "kind"), [("last:1", 1, BlockSplit), ("none", 0, HeadSplit)])
def test_features_of_a_text_depend_on_no_other_text(path: Path, layers: str, trained_blocks: int, kind: type) -> None:
    model = tiny_adapted(path, layers=layers, trained_factors="AB")
    part = split(model.base, trained_blocks)
    assert isinstance(part, kind)
    tokens = model.encode(TEXTS)
    together = FrozenFeatures.compute(part, tokens, model.base, 256)
    for index, text in enumerate(TEXTS):
        alone = FrozenFeatures.compute(part, model.encode([text]), model.base, 256)
        assert torch.equal(together.values[together.offsets[index] : together.offsets[index + 1]], alone.values)


def test_a_model_whose_every_block_is_trained_is_not_split(path: Path) -> None:
    base = tiny_adapted(path, layers="all").base
    assert [split(base, count) for count in (None, 3, 4)] == [None, None, None]


def test_features_stay_true_whatever_is_loaded(path: Path) -> None:
    model = tiny_adapted(path, layers="last:1")
    tokens = model.encode(TEXTS)
    features = model.features(tokens)
    assert features is not None
    shaken(model, seed=5)
    with torch.no_grad():
        assert torch.allclose(
            model.logits(features.batch(tokens, [0, 1])), model.logits(tokens.batch([0, 1])), atol=1e-5
        )
    assert tiny_adapted(path, layers="all").features(tokens) is None
    assert tiny_adapted(path, layers="last:3").features(tokens) is None


@pytest.mark.parametrize(
    ("family", "pooling", "which"),
    [
        ("bert", "mean", SEQUENCE),
        ("bert", "native", TOKEN),
        ("roberta", "native", SEQUENCE),
        ("distilbert", "native", SEQUENCE),
        ("llama", "native", SEQUENCE),
        ("t5", "native", SEQUENCE),
    ],
)
@pytest.mark.parametrize("layers", ["all", "last:1", "none"])
def test_opacus_gives_each_examples_own_gradient_through_pefts_wrappers(
    path: Path, family: str, pooling: Any, which: Any, layers: str
) -> None:
    model = shaken(tiny_adapted(path, family=family, pooling=pooling, which=which, layers=layers, trained_factors="AB"))
    if family == "t5":
        soften_attention(model.module)
    model.train_mode()
    parameters = model.trainable()
    tokens = model.encode(TEXTS, [0, 1, 2])
    features = model.features(tokens)
    model.train_mode()

    def loss(rows: list[int]) -> torch.Tensor:
        batch = tokens.batch(rows) if features is None else features.batch(tokens, rows)
        logits = model.logits(batch)
        if which is TOKEN:
            mask = batch.attention_mask.unsqueeze(-1)
            logits = (logits * mask).sum(1) / mask.sum(1)
        assert batch.labels is not None
        return nn.functional.cross_entropy(logits, batch.labels, reduction="sum")

    alone = []
    for row in range(3):
        alone.append(torch.autograd.grad(loss([row]), list(parameters.values())))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        hooks = GradSampleModule(model.module, loss_reduction="sum")
        try:
            loss([0, 1, 2]).backward()
        finally:
            hooks.remove_hooks()
    for index, (name, parameter) in enumerate(parameters.items()):
        for row in range(3):
            expected, found = alone[row][index], parameter.grad_sample[row]  # type: ignore[attr-defined]
            whole = torch.cat([gradient.flatten() for gradient in alone[row]]).norm()
            assert (expected - found).norm() <= 1e-4 * expected.norm() + 1e-5 * whole, name
            assert index or whole > 1e-3

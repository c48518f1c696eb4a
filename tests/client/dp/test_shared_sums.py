"""Trainings that share their blocks end in the bits in which each ends by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.dp.noise import FixedNoise
from client.dp.pause import BatchSum, Draw, Pausing
from client.dp.plan import DpTrainingStats
from client.dp.shared_sums import sums_together
from client.dp.training import pausing_train, train
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.tokenization.batches import Batch, TokenizedSet
from common.tokenization.blocks import Block
from tests.client.dp.test_training import build, examples, plan
from tests.tiny_models import save_tiny_model

SIZES = (40, 3, 0, 1, 17)
SHAPES = (
    ("bert", {"layers": "all", "trained_factors": "AB"}),
    ("bert", {"layers": "last:1", "trained_factors": "B"}),
    ("bert", {"layers": "none"}),
    ("bert", {"kind": "token", "layers": "last:1"}),
    ("llama", {"kind": "native", "layers": "last:1"}),
)


def sets(model: AdaptedModel, kind: str, unit: str) -> list[TokenizedSet]:
    """The rows of five institutions: many, few, none, one. Customers have up to four rows of different lengths."""
    found = []
    for seed, size in enumerate(SIZES):
        data = examples(model, max(1, size), kind, seed)
        owners: NDArray[np.int64] | None = np.random.default_rng(seed).integers(0, max(1, size // 2), size) + 7
        cut = replace(data, input_ids=data.input_ids[:size], labels=data.labels[:size])
        found.append(replace(cut, owners=owners if unit == "customer" else None))
    return found


def drawn(work: Pausing[DpTrainingStats]) -> Draw:
    return next(work)


def ended(work: Pausing[DpTrainingStats], own: BatchSum) -> DpTrainingStats:
    with pytest.raises(StopIteration) as end:
        work.send(own)
    stats: DpTrainingStats = end.value.value
    return stats


def bits(model: AdaptedModel) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in model.export().items()}


@pytest.mark.parametrize("unit", ["record", "customer"])
@pytest.mark.parametrize(("family", "shape"), SHAPES)
def test_shared_blocks_give_each_training_its_own_bits(
    tmp_path: Path, family: str, shape: dict[str, str], unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(str(save_tiny_model(tmp_path, family, layers=2, hidden=16)), **shape)
    start, first, parts = model.export(), bits(model), sets(model, shape.get("kind", "mean"), unit)
    given = plan(q=0.6, sigma=0.5, tokens=512, unit=unit)
    alone = []
    for number, data in enumerate(parts):
        model.load(start)
        stats = train(model, data, given, FixedNoise(bytes([number])))
        alone.append((bits(model), stats.examples_drawn, stats.clip_fraction))
        assert bits(model) != first
    model.load(start)
    # Few customers at a time, and the gradients of every block in the order in which they are computed.
    monkeypatch.setattr("client.dp.training._OPEN_NUMBERS", 5 * model.parameters_trained)
    blocks: list[Block] = []
    kept = FeatureCache.block_batch

    def noted(cache: FeatureCache, data: TokenizedSet, block: Block, device: str) -> Batch:
        blocks.append(block)
        return kept(cache, data, block, device)

    monkeypatch.setattr(FeatureCache, "block_batch", noted)
    caches = [FeatureCache() for _ in parts]
    work = [
        pausing_train(model, data, given, FixedNoise(bytes([number])), cache)
        for number, (data, cache) in enumerate(zip(parts, caches, strict=True))
    ]
    sums = sums_together([drawn(each) for each in work])
    found = []
    for each, own in zip(work, sums, strict=True):
        model.load(start)
        stats = ended(each, own)
        found.append((bits(model), stats.examples_drawn, stats.clip_fraction))
    assert found == alone
    if unit == "record":
        rows = sum(count for _, (count,), _ in alone)
        assert sum(len(block.rows) for block in blocks) == rows
        assert any(len(block.rows) > 17 for block in blocks)  # rows of several institutions side by side
    # The caches that were filled together serve each training by itself.
    for number, (data, cache) in enumerate(zip(parts, caches, strict=True)):
        model.load(start)
        train(model, data, given, FixedNoise(bytes([number])), cache)
        assert bits(model) == alone[number][0]


def test_several_workers_share_the_blocks_of_several_trainings(tmp_path: Path) -> None:
    model = build(str(save_tiny_model(tmp_path, "bert", layers=2, hidden=16)))
    start, parts = model.export(), sets(model, "mean", "record")
    given, found, before = plan(q=0.9, sigma=0.5, tokens=64), [], torch.get_num_threads()
    try:
        for workers in (1, 3):
            torch.set_num_threads(workers)
            model.load(start)
            work = [pausing_train(model, data, given, FixedNoise(b"1")) for data in parts]
            sums = sums_together([drawn(each) for each in work])
            for each, own in zip(work, sums, strict=True):
                model.load(start)
                ended(each, own)
                found.append(bits(model))
    finally:
        torch.set_num_threads(before)
    assert found[: len(parts)] == found[len(parts) :]


def test_only_trainings_at_one_adapter_with_one_clip_share(tmp_path: Path) -> None:
    model = build(str(save_tiny_model(tmp_path, "bert", layers=2, hidden=16)))
    data = examples(model)

    def draw(clip: float = 0.3) -> Draw:
        return drawn(pausing_train(model, data, plan(clip=clip, sigma=0.5), FixedNoise(b"1")))

    one, other = draw(), draw(clip=0.2)
    model.load({name: value + np.float32(0.1) for name, value in model.export().items()})
    moved = draw()
    assert one.may_share(one)
    for each in (other, moved):
        assert not one.may_share(each)
        with pytest.raises(ValueError, match="from one adapter"):
            sums_together([one, each])


def test_a_training_of_several_steps_or_without_privacy_does_not_pause(tmp_path: Path) -> None:
    model = build(str(save_tiny_model(tmp_path, "bert", layers=2, hidden=16)))
    data = examples(model)
    for work in (
        pausing_train(model, data, plan(steps=2, sigma=0.5), FixedNoise(b"1")),
        pausing_train(model, data, plan(private=False), None),
    ):
        with pytest.raises(StopIteration):
            drawn(work)

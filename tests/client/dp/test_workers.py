"""Several workers train privately as one does, to the last bit, and stop as one does."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from client.dp import training
from client.dp.noise import FixedNoise
from client.dp.plan import DpTrainingStats, optimizer_for
from client.dp.threads import MOST_WORKERS
from client.dp.training import train
from client.dp.workers import private_workers
from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import batch_losses
from common.errors import DataError, ModelError
from common.tokenization.batches import Batch
from tests.client.dp.test_training import build, examples, plan
from tests.tiny_models import save_tiny_model


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that compute a block, one entry a block."""
    seen: list[str] = []

    def losses(model: AdaptedModel, batch: Batch) -> torch.Tensor:
        seen.append(threading.current_thread().name if torch.get_num_threads() == 1 else "several threads")
        return batch_losses(model, batch)

    monkeypatch.setattr(training, "block_losses", losses)
    return seen


def trained(path: str, workers: int, unit: str = "record", **shape: str) -> tuple[dict[str, bytes], DpTrainingStats]:
    """Train for two steps with noise that repeats itself, on as many threads as `workers`."""
    model, before = build(path, **shape), torch.get_num_threads()
    data = examples(model, 90, shape.get("kind", "mean"))
    if unit == "customer":
        data = type(data)(data.input_ids, data.labels, data.pad_id, owners=np.arange(90) // 4)
    torch.set_num_threads(workers)
    try:
        stats = train(model, data, plan(steps=2, q=0.9, sigma=0.5, tokens=512, unit=unit), FixedNoise(b"0" * 32))
        assert torch.get_num_threads() == workers
    finally:
        torch.set_num_threads(before)
    assert all(parameter.grad is None for parameter in model.module.parameters())
    return {name: value.tobytes() for name, value in model.export().items()}, stats


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("bert", {"layers": "all", "trained_factors": "AB"}),
        ("bert", {"layers": "last:1", "trained_factors": "B"}),
        ("bert", {"layers": "none"}),
        ("bert", {"kind": "token", "layers": "last:1"}),
        ("roberta", {"kind": "native", "layers": "all"}),
        ("llama", {"kind": "native", "layers": "all", "trained_factors": "AB"}),
    ],
)
def test_the_bits_of_a_noised_training_are_the_same_with_one_two_and_three_workers(
    tmp_path: Path, threads: list[str], family: str, shape: dict[str, str]
) -> None:
    save_tiny_model(tmp_path, family)
    one, stats = trained(str(tmp_path), 1, **shape)
    assert len(set(threads)) == 1
    for workers in (2, 3):
        several, stats_of_several = trained(str(tmp_path), workers, **shape)
        assert several == one
        assert stats_of_several.loss == stats.loss
        assert stats_of_several.clip_fraction == stats.clip_fraction
    assert "several threads" not in threads


def test_blocks_are_shared_out_and_each_worker_computes_on_one_thread(tmp_path: Path, threads: list[str]) -> None:
    save_tiny_model(tmp_path)
    trained(str(tmp_path), 2)
    assert "several threads" not in threads
    assert len(set(threads)) == 2
    threads.clear()
    trained(str(tmp_path), MOST_WORKERS + 3)
    assert len(set(threads)) <= MOST_WORKERS
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("private")]


def test_customers_have_one_worker_since_their_gradients_are_added_up_in_order(
    tmp_path: Path, threads: list[str]
) -> None:
    save_tiny_model(tmp_path)
    one, _ = trained(str(tmp_path), 1, "customer")
    assert trained(str(tmp_path), 2, "customer")[0] == one
    assert len(set(threads)) == 1


@pytest.mark.parametrize("where", ["MainThread", "private"])
def test_an_error_of_any_worker_stops_the_training_and_leaves_the_model_as_a_single_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    save_tiny_model(tmp_path)
    model, before = build(str(tmp_path)), torch.get_num_threads()
    start = {name: value.tobytes() for name, value in model.export().items()}
    stopped = threading.Event()

    def fail(model: AdaptedModel, batch: Batch) -> torch.Tensor:
        if threading.current_thread().name.startswith(where):
            stopped.set()
            raise DataError("no room for the batch")
        stopped.wait(10)
        return batch_losses(model, batch)

    monkeypatch.setattr(training, "block_losses", fail)
    torch.set_num_threads(2)
    try:
        with pytest.raises(DataError, match="no room"):
            train(model, examples(model, 90), plan(tokens=512), FixedNoise(b"0" * 32))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("private")]
    assert {name: value.tobytes() for name, value in model.export().items()} == start
    assert not any({"grad_sample", "_forward_counter"} & set(vars(p)) for p in model.module.parameters())
    assert not any(part._backward_hooks for part in model.module.modules())


def test_a_worker_whose_gradients_have_other_bits_is_found_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model(tmp_path)
    model, before = build(str(tmp_path)), torch.get_num_threads()
    pool = model.base.model.pool
    elsewhere = lambda: threading.current_thread().name.startswith("private")  # noqa: E731
    monkeypatch.setattr(model.base.model, "pool", lambda hidden, mask: pool(hidden, mask) * (1 + 1e-6 * elsewhere()))
    torch.set_num_threads(2)
    try:
        with pytest.raises(ModelError, match="depends on the examples beside it"):
            train(model, examples(model, 90), plan(tokens=512), FixedNoise(b"0" * 32))
    finally:
        torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items_and_a_copy_holds_no_number_of_its_own(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    model, given = build(str(tmp_path)), plan()
    assert given.dp is not None
    with private_workers(model, optimizer_for(model, given), given.dp, FixedNoise(b"0"), 3) as workers:
        assert workers.share(range(20), lambda _, __, item: item * item) == [item * item for item in range(20)]
        assert workers.share([], lambda _, __, item: item) == []
        own = [p.data_ptr() for p in model.module.parameters()]
        assert workers.last(lambda other, _: [p.data_ptr() for p in other.module.parameters()]) == own
        assert workers.last(lambda other, _: other is not model)

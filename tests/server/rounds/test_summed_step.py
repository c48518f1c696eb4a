"""A step with a sum moves each tensor by its own learning rate, and a sum of masks that did not cancel moves none."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.errors import SecureAggregationRefused
from common.protocol.adapter_codec import Spec
from server.rounds.summed_step import step_from_sum

SPEC = Spec((("body", (2, 3), "F32"), ("head", (2,), "F32")))


def federation(**changes: Any) -> Any:
    training = SimpleNamespace(learning_rate=0.5, head_learning_rate=2.0)
    config = SimpleNamespace(
        training=training,
        privacy=SimpleNamespace(clipping_norm=1.0),
        aggregation=SimpleNamespace(max_update_norm=changes.get("max_update_norm")),
    )
    return SimpleNamespace(config=config, spec=SPEC, head_names=frozenset({"head"}))


def test_each_tensor_moves_by_its_own_rate() -> None:
    adapter = {"body": np.ones((2, 3), np.float32), "head": np.zeros(2, np.float32)}
    total = np.arange(8, dtype=np.int64) * 2**19
    moved = step_from_sum(adapter, total, 32, 10.0, federation())
    assert np.allclose(moved["body"], 1 - np.arange(6).reshape(2, 3) * 0.05)
    assert np.allclose(moved["head"], -np.array([6, 7]) * 0.2)


def test_a_uniform_sum_and_an_update_that_is_too_long_are_refused() -> None:
    adapter = {"body": np.ones((2, 3), np.float32), "head": np.zeros(2, np.float32)}
    with pytest.raises(SecureAggregationRefused, match="did not cancel"):
        step_from_sum(adapter, np.full(8, 2**31 - 1), 32, 10.0, federation())
    with pytest.raises(SecureAggregationRefused, match="above max_update_norm"):
        step_from_sum(adapter, np.full(8, 2**20), 32, 10.0, federation(max_update_norm=0.1))

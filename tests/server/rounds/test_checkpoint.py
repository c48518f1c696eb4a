"""A saved state comes back bit for bit, or not at all."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import CheckpointError
from common.report.records import RoundRecord
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState

RECORD = RoundRecord(
    round=1,
    asked=("a", "b"),
    contributed=("a",),
    outcomes={"a": "contributed", "b": "declined:budget"},
    metrics={"accuracy": 0.1 + 0.2},
    by_institution={"a": {"accuracy": 1 / 3}},
    epsilon={"a": 1.5},
    bytes_up=10,
    bytes_down=20,
    seconds=0.25,
    adapter_digest="0" * 64,
    contributions={"a": "1" * 64},
    weights={"a": 1.0},
)
STATE = RunState(
    run_id="run",
    config_digest="2" * 64,
    next_round=2,
    adapter={"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([-0.0, 1e-45], dtype=np.float32)},
    optimizer_state={"first": {"a": np.ones((2, 3), dtype=np.float32), "b": np.ones(2, dtype=np.float32)}},
    history=(RECORD, replace(RECORD, round=2, metrics=None, by_institution=None)),
    missed=(replace(RECORD, round=3),),
)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def assert_same(one: RunState, two: RunState) -> None:
    for name in ("run_id", "config_digest", "next_round", "history", "missed"):
        assert getattr(one, name) == getattr(two, name)
    for mine, theirs in (
        (one.adapter, two.adapter),
        *zip(one.optimizer_state.values(), two.optimizer_state.values(), strict=True),
    ):
        assert [(n, v.shape, v.tobytes()) for n, v in mine.items()] == [
            (n, v.shape, v.tobytes()) for n, v in theirs.items()
        ]
    assert list(one.optimizer_state) == list(two.optimizer_state)


def test_a_saved_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.save(STATE, tmp_path)
    assert_same(checkpoint.load(tmp_path), STATE)


@settings(max_examples=25, deadline=None)
@given(
    adapter=st.dictionaries(
        st.text("abc._-", min_size=1, max_size=8),
        hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=FINITE),
        min_size=1,
    ),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)),
    moments=st.sampled_from([(), ("first",), ("first", "second")]),
)  # fmt: skip
def test_any_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory, adapter: dict[str, Any], metrics: dict[str, Any], moments: tuple[str, ...]
) -> None:
    adapter = {name: adapter[name] for name in sorted(adapter)}
    history = (replace(RECORD, metrics=metrics),)
    state = replace(STATE, adapter=adapter, optimizer_state=dict.fromkeys(moments, adapter), history=history)
    directory = tmp_path_factory.mktemp("state")
    checkpoint.save(state, directory)
    assert_same(checkpoint.load(directory), state)


def test_any_changed_byte_and_any_cut_is_found(tmp_path: Path) -> None:
    checkpoint.save(STATE, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path)
        path.write_bytes(whole[:position])
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", [b"{}", b"[]", b"", b'{"spec": 3}'])
def test_another_content_under_a_right_digest_is_one_clear_error(tmp_path: Path, header: bytes) -> None:
    import hashlib

    rest = b"state\n" + len(header).to_bytes(4, "big") + header
    content = b"fedfin checkpoint 1\n" + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
    (tmp_path / "state.fedfin").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a state of this version"):
        checkpoint.load(tmp_path)


def test_nothing_saved_is_told_apart(tmp_path: Path) -> None:
    assert not checkpoint.exists(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="nothing to resume"):
        checkpoint.load(tmp_path / "absent")
    checkpoint.save(STATE, tmp_path / "new")
    assert checkpoint.exists(tmp_path / "new")


def test_a_write_that_fails_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(STATE, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(replace(STATE, next_round=9), tmp_path)
    assert checkpoint.load(tmp_path).next_round == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state.fedfin"]

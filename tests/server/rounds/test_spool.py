"""The memory of the hub's rounds does not grow with the number of institutions, and the bits are those of before."""

import gc
import tracemalloc
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config.run import parse_run
from common.errors import CheckpointError
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors, decode, encode
from common.protocol.envelope import MessageContext, open_sealed, seal
from common.protocol.messages import Assignment, Contribution
from common.protocol.outcomes import RoundOutcome
from common.source import code_digest
from server.rounds import coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.spool import Spool

NUMBERS = 2**16
BYTES = 4 * NUMBERS
CONFIG = {
    "run": {"name": "test", "seed": 1, "rounds": 1},
    "task": {"name": "sentiment_analysis", "labels": ["negative", "positive"]},
    "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
    "privacy": {"mode": "none"},
}


class Carrier:
    """Every institution adds its own number to the adapter. The answers arrive in the order of `names`."""

    def __init__(self, keys: Mapping[str, PrivateKeys], hub: PrivateKeys, names: list[str], spool: Path | None) -> None:
        self.keys, self.hub, self.names, self.spool = keys, hub, names, spool

    def exchange(self, round_: int, sealed: Mapping[str, bytes], _deadline_s: float) -> Spool[bytes | Failure]:
        answers: Spool[bytes | Failure] = Spool(self.spool)
        for name in self.names:
            place = MessageContext("run", round_, "assignment", "hub", name)
            question = Assignment.from_bytes(open_sealed(sealed[name], self.keys[name], self.hub.public, place))
            spec = Spec.from_json(question.spec_json)
            own = np.random.default_rng(int(name[1:])).normal(size=NUMBERS).astype(np.float32)
            adapter = encode({n: v + own for n, v in decode(question.adapter, spec).items()})
            answer = Contribution("run", round_, adapter, spec.digest(), code_digest(), None, 2 ** (int(name[1:]) % 7))
            back = MessageContext("run", round_, "contribution", name, "hub")
            answers[name] = seal(answer.to_bytes(), self.keys[name], self.hub.public, back)
        return answers


def run(keys: dict[str, PrivateKeys], names: list[str], spool: Path | None) -> tuple[Tensors, int]:
    """Return the adapter after one round, and the peak of memory in bytes."""
    hub, config = keys["hub"], parse_run(CONFIG, "test")
    start: Tensors = {"w": np.random.default_rng(0).normal(size=NUMBERS).astype(np.float32)}
    public = {name: keys[name].public for name in names}
    federation = FederationContext(hub, public, config, Spec.of(start), spool=partial(Spool, spool))
    state = RunState(run_id="run", config_digest=config.digest(), next_round=1, adapter=start)
    carrier = Carrier(keys, hub, names, spool)
    gc.collect()
    tracemalloc.start()
    try:
        final = coordinator.run(state, federation, carrier, lambda _: None, lambda _: None, lambda *_: None)
        return final.adapter, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKeys]:
    return {name: PrivateKeys.generate(name) for name in ("hub", *(f"b{i:02}" for i in range(50)))}


def test_fifty_institutions_take_the_memory_of_five(keys: dict[str, PrivateKeys], tmp_path: Path) -> None:
    banks = sorted(keys.keys() - {"hub"})
    run(keys, banks[:2], tmp_path)  # whatever is loaded once
    few, many = run(keys, banks[:5], tmp_path)[1], run(keys, banks, tmp_path)[1]
    assert many < few + BYTES
    assert many < 16 * BYTES
    assert run(keys, banks, None)[1] > many + 45 * BYTES
    assert not list(tmp_path.iterdir())


def test_neither_the_order_of_arrival_nor_the_spool_changes_a_bit(keys: dict[str, PrivateKeys], tmp_path: Path) -> None:
    banks = sorted(keys.keys() - {"hub"})[:9]
    found = {
        run(keys, names, spool)[0]["w"].tobytes()
        for names in (banks, banks[::-1], banks[4:] + banks[:4])
        for spool in (None, tmp_path)
    }
    assert len(found) == 1


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_spool_is_a_mapping(tmp_path: Path, on_disk: bool) -> None:
    spool: Spool[Any] = Spool(tmp_path if on_disk else None)
    failure = Failure(RoundOutcome.FAILED_LATE, "late")
    spool["a"], spool["b"], spool["c"] = b"one", failure, b"three"
    assert spool == {"a": b"one", "b": failure, "c": b"three"}
    assert spool.messages == 2
    spool["a"], spool["b"] = failure, b"two"
    assert spool == {"a": failure, "b": b"two", "c": b"three"}
    del spool["c"]
    assert dict(spool) == {"a": failure, "b": b"two"}
    assert "c" not in spool
    with pytest.raises(KeyError):
        spool["c"]


def test_a_directory_that_takes_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be kept") as caught:
        Spool(tmp_path / "absent")
    assert "\n" not in str(caught.value)


def test_a_message_is_written_once_the_disk_has_room_for_it(tmp_path: Path) -> None:
    asked: list[int] = []
    spool: Spool[Any] = Spool(tmp_path, asked.append)
    spool["a"], spool["b"] = b"four", Failure(RoundOutcome.FAILED_LATE, "late")
    assert asked == [4]

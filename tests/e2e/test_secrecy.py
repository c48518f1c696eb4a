"""No adapter in the clear: not on the wire between institutions and hub, not in the SuperLink's database."""

from pathlib import Path

from common.protocol.adapter_codec import Tensors
from server.rounds import checkpoint
from tests.e2e.deployed import Hub, until

# How the messages inside the envelopes begin.
PLAIN = (b"fedfin assignment 1\n", b"fedfin contribution 1\n")
SEALED = b"fedfin envelope 1"


def windows(adapter: Tensors) -> list[bytes]:
    """Pieces of 16 bytes from the middle of every tensor that was trained."""
    raw = [tensor.tobytes() for tensor in adapter.values() if tensor.any()]
    return [data[len(data) // 2 // 4 * 4 :][:16] for data in raw if len(data) >= 64]


def database(hub: Hub) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((hub.directory / "state").glob("superlink.db*")))


def in_the_clear(data: bytes, adapters: list[Tensors]) -> list[bytes]:
    """Names of tensors, their numbers and the beginnings of messages that are found in `data`."""
    names = [name.encode() for name in adapters[0]]
    numbers = [window for adapter in adapters for window in windows(adapter)]
    return [word for word in (*PLAIN, *names, *numbers) if word in data]


def test_neither_wire_nor_database_holds_an_adapter_in_the_clear(hub: Hub, tmp_path: Path) -> None:
    hub.wiretap.forget()
    run = hub.run("run.rounds=3", "training.local_steps=20")
    run.in_round(2)
    first = checkpoint.load(run.directory / "checkpoint").adapter
    run.in_round(3)
    second = checkpoint.load(run.directory / "checkpoint").adapter
    stored = until(
        lambda: found if SEALED in (found := database(hub)) else b"", "the database holds an envelope", every=0.05
    )
    assert run.ended() == "finished"
    last, heard = checkpoint.load(run.directory / "checkpoint").adapter, hub.wiretap.heard()
    stored += database(hub)

    # The search finds known content: the checkpoint is in the clear, the database holds envelopes, the wire was heard.
    assert in_the_clear((run.directory / "checkpoint" / "state.fedfin").read_bytes(), [last])
    assert SEALED in stored
    assert len(heard) > 20_000
    assert SEALED not in heard
    for data in (stored, heard):
        assert in_the_clear(data, [first, second, last]) == []

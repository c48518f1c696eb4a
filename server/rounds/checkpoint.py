"""Save and load the run's state as one file with its own digest, written whole or not at all.

magic line | SHA-256 of the rest, hex, newline | header (canonical JSON) | adapter | optimiser's moments (safetensors)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from common.canonical import canonical, frame, parse_object, unframe
from common.errors import AdapterRefused, CheckpointError, MessageError
from common.files import write_atomic
from common.protocol.adapter_codec import Spec, Tensors, decode, encode
from common.report.records import RoundRecord

__all__ = ["RunState", "exists", "load", "save"]

_FILE = "state.fedfin"
_MAGIC = b"fedfin checkpoint 1\n"
_BODY = b"state\n"
_DIGEST_BYTES = 65
_MAX_HEADER_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class RunState:
    """All values that the next round depends on, beside the run's configuration and the institutions' keys.

    Attributes:
        run_id: Name of the run.
        config_digest: SHA-256 of the configuration, in hex.
        next_round: The round that is due, from 1.
        adapter: The global adapter.
        optimizer_state: Moments of the server optimiser.
        history: Records of the finished rounds.
        missed: Records of the attempts that missed the quorum. They changed nothing else.
        delivered: Whether the final adapter was sent to the institutions, in a run with a personal part.
    """

    run_id: str
    config_digest: str
    next_round: int
    adapter: Tensors
    optimizer_state: Mapping[str, Tensors] = field(default_factory=dict)
    history: tuple[RoundRecord, ...] = ()
    missed: tuple[RoundRecord, ...] = ()
    delivered: bool = False

    @cached_property
    def encoded(self) -> bytes:
        """The adapter as bytes, encoded once for sending, digest and checkpoint."""
        return encode(self.adapter)

    @cached_property
    def adapter_digest(self) -> str:
        """SHA-256 of `encoded`, in hex."""
        return hashlib.sha256(self.encoded).hexdigest()


def exists(directory: Path) -> bool:
    """Return whether a state was ever saved in `directory`."""
    return (directory / _FILE).exists()


def save(state: RunState, directory: Path) -> None:
    """Write the state. After a crash at any moment, `directory` holds the previous state or this one.

    Raises:
        CheckpointError: It cannot be written (no space, no permission).
    """
    parts = [state.encoded, *(encode(tensors) for tensors in state.optimizer_state.values())]
    header = {
        "run_id": state.run_id,
        "config_digest": state.config_digest,
        "next_round": state.next_round,
        "spec": Spec.of(state.adapter).to_json(),
        "moments": list(state.optimizer_state),
        "history": [record.text for record in state.history],
        "missed": [record.text for record in state.missed],
        **({"delivered": True} if state.delivered else {}),
    }
    rest = frame(_BODY, canonical(header), b"".join(parts))
    path = directory / _FILE
    try:
        write_atomic(path, b"".join((_MAGIC, hashlib.sha256(rest).hexdigest().encode(), b"\n", rest)))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}): make room or choose another") from error


def load(directory: Path) -> RunState:
    """Read a state that `save` wrote.

    Raises:
        CheckpointError: There is none, or a byte of it has changed.
    """
    path = directory / _FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): there is nothing to resume here") from error
    rest = data[len(_MAGIC) + _DIGEST_BYTES :]
    if data[: len(data) - len(rest)] != _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n":
        raise CheckpointError(
            f"{path}: it is damaged or of another version: restore it from a backup, or start a new run"
        )
    try:
        return _read(rest)
    except (ValueError, TypeError, KeyError, MessageError, AdapterRefused) as error:
        raise CheckpointError(f"{path}: it is not a state of this version: start a new run") from error


def _read(data: bytes) -> RunState:
    header, body = unframe(_BODY, data, _MAX_HEADER_BYTES)
    values = parse_object(header)
    spec, moments = Spec.from_json(values["spec"]), values["moments"]
    size = spec.size()
    parts = [bytes(body[start : start + size]) for start in range(0, len(body), size)]
    adapter, *remembered = [decode(part, spec) for part in parts]
    return RunState(
        run_id=values["run_id"],
        config_digest=values["config_digest"],
        next_round=values["next_round"],
        adapter=adapter,
        optimizer_state=dict(zip(moments, remembered, strict=True)),
        history=_records(values["history"]),
        missed=_records(values["missed"]),
        delivered=bool(values.get("delivered", False)),
    )


def _records(texts: list[str]) -> tuple[RoundRecord, ...]:
    # Any number is taken as it is: the digest shows that this hub wrote it.
    values = [parse_object(text) for text in texts]
    return tuple(
        RoundRecord(**{**value, "asked": tuple(value["asked"]), "contributed": tuple(value["contributed"])})
        for value in values
    )

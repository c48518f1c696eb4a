"""The run's state as one file: written whole or not at all, with its own digest, read back bit for bit.

magic line | SHA-256 of the rest, hex, newline | header (canonical JSON) | adapter | optimiser's moments (safetensors)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from common.canonical import canonical, frame, parse_object, unframe
from common.errors import AdapterRefused, CheckpointError, MessageError
from common.files import write_atomic
from common.protocol.adapter_codec import Spec, Tensors, decode, encode

__all__ = ["RoundRecord", "RunState", "exists", "load", "save"]

_FILE = "state.fedfin"
_MAGIC = b"fedfin checkpoint 1\n"
_BODY = b"state\n"
_DIGEST_BYTES = 65
_MAX_HEADER_BYTES = 2**30


@dataclass(frozen=True)
class RoundRecord:
    """How one round went: what anyone may know of it.

    `outcomes` says of every institution asked (and whoever answered unasked) "contributed", or why not:
    "declined:CODE" its own refusal, "refused:CODE" ours, "failed:CODE" no answer arrived.
    `adapter_digest` is the global adapter's after the round; `contributions` are digests of what was combined, and
    `weights` their shares. `epsilon` is each contributor's own figure for its run so far. `metrics` are those of the
    hub's test set, None in a round without evaluation. Sizes in bytes as sealed, `seconds` of wall time.
    """

    round: int
    asked: tuple[str, ...]
    contributed: tuple[str, ...]
    outcomes: Mapping[str, str]
    metrics: Mapping[str, float] | None
    by_institution: Mapping[str, Mapping[str, float]] | None
    epsilon: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    seconds: float
    adapter_digest: str
    contributions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A value that `json.dumps` takes."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @cached_property
    def text(self) -> str:
        """`to_json` as canonical JSON; kept, since every later checkpoint holds it again."""
        return canonical(self.to_json()).decode()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Undo `to_json`. Raises TypeError or KeyError on anything else."""
        return cls(**{**value, "asked": tuple(value["asked"]), "contributed": tuple(value["contributed"])})


@dataclass(frozen=True, eq=False)
class RunState:
    """Everything the next round depends on, beside the run's configuration and the institutions' keys.

    `next_round` counts from 1. `missed` are attempts at a round that fell short of the quorum: they changed nothing
    but are part of the run.
    """

    run_id: str
    config_digest: str
    next_round: int
    adapter: Tensors
    optimizer_state: Mapping[str, Tensors] = field(default_factory=dict)
    history: tuple[RoundRecord, ...] = ()
    missed: tuple[RoundRecord, ...] = ()

    @cached_property
    def encoded(self) -> bytes:
        """The adapter as bytes: sent, digested and saved, so encoded once."""
        return encode(self.adapter)

    @cached_property
    def adapter_digest(self) -> str:
        """SHA-256 of `encoded`, in hex: `codec.digest(adapter)`."""
        return hashlib.sha256(self.encoded).hexdigest()


def exists(directory: Path) -> bool:
    """Whether a state was ever saved in `directory`; a crash before the first save leaves none."""
    return (directory / _FILE).exists()


def save(state: RunState, directory: Path) -> None:
    """Write the state; whatever happens meanwhile, `directory` holds the previous one or this one.

    Raises:
        CheckpointError: it cannot be written (no space, no permission).
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
    }
    rest = frame(_BODY, canonical(header), b"".join(parts))
    path = directory / _FILE
    try:
        write_atomic(path, b"".join((_MAGIC, hashlib.sha256(rest).hexdigest().encode(), b"\n", rest)))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}): make room or choose another") from error


def load(directory: Path) -> RunState:
    """Read what `save` wrote.

    Raises:
        CheckpointError: there is none, or any byte of it is not as written.
    """
    path = directory / _FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): there is nothing to resume here") from error
    rest = data[len(_MAGIC) + _DIGEST_BYTES :]
    if data[: len(data) - len(rest)] != _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n":
        raise CheckpointError(f"{path}: damaged, or of another version: restore it from a backup or start a new run")
    try:
        return _read(rest)
    except (ValueError, TypeError, KeyError, MessageError, AdapterRefused) as error:
        raise CheckpointError(f"{path}: not a state of this version: start a new run") from error


def _read(data: bytes) -> RunState:
    header, body = unframe(_BODY, data, _MAX_HEADER_BYTES)
    values = parse_object(header)
    spec, moments = Spec.from_json(values["spec"]), values["moments"]
    size = len(spec.header) + spec.data_bytes
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
    )


def _records(texts: list[str]) -> tuple[RoundRecord, ...]:
    return tuple(RoundRecord.from_json(parse_object(text)) for text in texts)

"""Messages between hub and institutions, and their bytes. Pure: sealing is `envelope`'s, transport is Flower's.

The fields that leave an institution are listed here and nowhere else: the adapter, the declared size, the
parameters the run fixed, its own epsilon, or a refusal code from a closed list. There is no field for a count, a loss,
a metric or a text. `common.protocol.disclosures` says why each field may leave.
"""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NoReturn, Self

from common.canonical import (
    MAX_DECLARED_UNITS,
    MAX_MESSAGE_BYTES,
    MAX_ROUND,
    canonical,
    frame,
    is_name,
    parse_object,
    unframe,
)
from common.errors import MessageError

__all__ = ["Assignment", "Contribution", "PrivacyStatement", "Receipt", "Refusal", "RefusalCode"]

_MAX_HEADER_BYTES = 12 * 2**20


class RefusalCode(StrEnum):
    """The reason why an institution declined. The hub learns nothing more."""

    BUDGET = "budget"
    CONFIG = "config"
    BASE_MODEL = "base_model"
    TASK = "task"
    PRIVACY_LIMIT = "privacy_limit"
    REPLAY = "replay"
    BUSY = "busy"
    ERROR = "error"


@dataclass(frozen=True)
class PrivacyStatement:
    """The privacy statement of an institution about its training. The unit is `privacy.unit` of the run. The adjacency
    is adding or removing one unit.

    `epsilon` (at `delta`) is the institution's own figure for this run so far. `sampling_probability` is stated only
    if the run's configuration fixes it: otherwise it would give the number of records away.
    """

    noise_multiplier: float
    clipping_norm: float
    steps: int
    delta: float
    epsilon: float
    sampling_probability: float | None = None

    def __post_init__(self) -> None:
        for field in ("noise_multiplier", "clipping_norm", "delta", "epsilon"):
            object.__setattr__(self, field, _number(f"privacy statement: {field}", getattr(self, field)))
        for field in ("noise_multiplier", "clipping_norm", "delta"):
            if getattr(self, field) == 0:
                raise MessageError(f"privacy statement: {field} is 0: it must be above")
        if self.delta >= 1:
            raise MessageError("privacy statement: delta is not below 1")
        _integer("privacy statement: steps", self.steps, 1, MAX_ROUND)
        if self.sampling_probability is not None:
            rate = _number("privacy statement: sampling_probability", self.sampling_probability)
            if not 0 < rate <= 1:
                raise MessageError("privacy statement: sampling_probability is not above 0 and at most 1")
            object.__setattr__(self, "sampling_probability", rate)


class _Message:
    """Encoding shared by the three: fields other than `adapter` as canonical JSON, the adapter's bytes after it."""

    def to_bytes(self) -> bytes:
        """The only encoding of this message.

        Raises:
            MessageError: it is larger than a receiver would take.
        """
        header, body = self._header(), self._body()
        if len(header) > _MAX_HEADER_BYTES or len(header) + len(body) > MAX_MESSAGE_BYTES - 64:
            raise MessageError(f"{type(self).__name__.lower()}: too large to send: train a smaller adapter")
        return frame(self._magic(), header, body)

    @classmethod
    def from_bytes(cls, data: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> Self:
        """Read the bytes that `to_bytes` wrote, and nothing else.

        Raises:
            MessageError: on any other bytes.
        """
        name = cls.__name__.lower()
        if len(data) > max_bytes:
            raise MessageError(f"{name}: {len(data)} bytes: at most {max_bytes} are taken")
        try:
            header, body = unframe(cls._magic(), data, _MAX_HEADER_BYTES)
            fields = parse_object(header)
            if "adapter" in cls.__dataclass_fields__:  # type: ignore[attr-defined]  # every subclass is a dataclass
                fields["adapter"] = bytes(body)
            message = cls._of(fields)
        except (ValueError, KeyError, TypeError):
            raise MessageError(f"{name}: not one of this protocol: the sender may run another version") from None
        if message._header() != header or len(body) != len(message._body()):
            raise MessageError(f"{name}: not in canonical form: the sender may run another version")
        return message

    @classmethod
    def _magic(cls) -> bytes:
        return f"fedfin {cls.__name__.lower()} 1\n".encode()

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)

    def _body(self) -> bytes:
        body: bytes = getattr(self, "adapter", b"")
        return body

    def _header(self) -> bytes:
        fields = asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        fields.pop("adapter", None)
        return canonical(fields)


@dataclass(frozen=True)
class Assignment(_Message):
    """The hub's question to one institution: train this adapter for one round.

    In a run with a personal part the round after the last one brings the final adapter, and asks for a `Receipt`.

    `config_json` is `RunConfig.to_json()`, `spec_json` is `Spec.to_json()`, `adapter` comes from
    `adapter_codec.encode`. Each is checked by its own reader, not here. `share` is the receiver's own mean share in the
    weights of the rounds so far, of `members` institutions that had one. Both are 0 before the first round is closed.
    """

    run_id: str
    round: int
    config_json: str
    spec_json: str
    adapter: bytes
    code_digest: str
    share: float = 0.0
    members: int = 0

    def __post_init__(self) -> None:
        _check_round("assignment", self.run_id, self.round)
        object.__setattr__(self, "share", _number("assignment: share", self.share))
        if self.share > 1:
            _wrong("assignment: share", "a number from 0 to 1")
        _integer("assignment: members", self.members, 0, MAX_ROUND)
        _text("assignment: config_json", self.config_json)
        _text("assignment: spec_json", self.spec_json)
        _bytes("assignment: adapter", self.adapter)
        _digest("assignment: code_digest", self.code_digest)


@dataclass(frozen=True)
class Contribution(_Message):
    """One institution's answer. `statement` is None only if the run trains without differential privacy.

    `declared_units` is a power of two that the institution's privacy officer chose to declare, or None.
    """

    run_id: str
    round: int
    adapter: bytes
    spec_digest: str
    code_digest: str
    statement: PrivacyStatement | None
    declared_units: int | None

    def __post_init__(self) -> None:
        _check_round("contribution", self.run_id, self.round)
        _bytes("contribution: adapter", self.adapter)
        _digest("contribution: spec_digest", self.spec_digest)
        _digest("contribution: code_digest", self.code_digest)
        if self.statement is not None and not isinstance(self.statement, PrivacyStatement):
            _wrong("contribution: statement", "a privacy statement or nothing")
        if self.declared_units is not None:
            _integer("contribution: declared_units", self.declared_units, 1, MAX_DECLARED_UNITS)
            if self.declared_units.bit_count() != 1:
                _wrong("contribution: declared_units", "a power of two")

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Self:
        statement = fields.pop("statement")
        if statement is not None:
            statement = PrivacyStatement(**statement)
        return cls(**fields, statement=statement)


@dataclass(frozen=True)
class Receipt(_Message):
    """One institution's confirmation that the final global adapter has come. It holds nothing else."""

    run_id: str
    round: int

    def __post_init__(self) -> None:
        _check_round("receipt", self.run_id, self.round)


@dataclass(frozen=True)
class Refusal(_Message):
    """One institution's no, with its reason code and nothing else."""

    run_id: str
    round: int
    code: RefusalCode

    def __post_init__(self) -> None:
        _check_round("refusal", self.run_id, self.round)
        try:
            object.__setattr__(self, "code", RefusalCode(self.code))
        except ValueError:
            _wrong("refusal: code", "one of " + ", ".join(RefusalCode))


def _wrong(field: str, expected: str) -> NoReturn:
    raise MessageError(f"{field}: expected {expected}")


def _check_round(what: str, run_id: object, round_: object) -> None:
    if not is_name(run_id):
        _wrong(f"{what}: run_id", "1 to 128 letters, digits, spaces, '_', '.' or '-'")
    _integer(f"{what}: round", round_, 0, MAX_ROUND)


def _integer(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        _wrong(field, f"a whole number from {low} to {high}")


def _number(field: str, value: object) -> float:
    if type(value) not in (int, float):
        _wrong(field, "a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # an int or a float
    except OverflowError:
        _wrong(field, "a finite number")
    if not math.isfinite(number) or number < 0 or math.copysign(1.0, number) < 0:
        _wrong(field, "a finite number that is not negative")
    return number


def _text(field: str, value: object) -> None:
    if not isinstance(value, str):
        _wrong(field, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _wrong(field, "text without lone surrogates")


def _bytes(field: str, value: object) -> None:
    if not isinstance(value, bytes):
        _wrong(field, "bytes")


def _digest(field: str, value: object) -> None:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        _wrong(field, "a SHA-256 digest of 64 hexadecimal digits")

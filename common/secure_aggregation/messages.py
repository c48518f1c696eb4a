"""Messages of secure aggregation between hub and institution, and their bytes. Envelopes seal them.

Each is a header in canonical JSON and a body of the fields that are bytes. `common.protocol.disclosures` says why each
field of an answer may leave.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn, Self

from common.canonical import MAX_DECLARED_UNITS, MAX_ROUND, canonical, frame, is_name, parse_object, unframe
from common.errors import MessageError
from common.protocol.messages import PrivacyStatement

__all__ = [
    "ANSWERS",
    "Announcement",
    "AnnouncementRequest",
    "Confirmation",
    "ConfirmationRequest",
    "DealtShares",
    "MaskedSum",
    "MaskedSumRequest",
    "Pads",
    "PadsRequest",
    "SecureMessage",
    "SharesRequest",
    "Unmasking",
    "UnmaskingRequest",
]

_MAX_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class SecureMessage:
    """A message of a session. `terms` is the digest of the session's terms.

    Raises:
        MessageError: A field is of another kind.
    """

    terms: str
    round: int

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, field.type, getattr(self, field.name)))

    @classmethod
    def kind(cls) -> str:
        """Return the kind of the envelope."""
        return f"secure {cls.__name__}"

    def to_bytes(self) -> bytes:
        """Return the only encoding of this message."""
        header: dict[str, Any] = {}
        body: list[bytes] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bytes):
                header[field.name] = len(value)
                body.append(value)
            elif isinstance(value, Mapping):
                header[field.name] = [[name, len(part)] for name, part in value.items()]
                body += value.values()
            else:
                header[field.name] = asdict(value) if isinstance(value, PrivacyStatement) else value
        return frame(self._magic(), canonical(header), b"".join(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes that `to_bytes` wrote, and nothing else.

        Raises:
            MessageError: On any other bytes.
        """
        try:
            header, body = unframe(cls._magic(), data, _MAX_HEADER_BYTES)
            values, start = parse_object(header), 0
            for field in fields(cls):
                if field.type is bytes:
                    values[field.name], start = _cut(body, start, values[field.name])
                elif field.type == Mapping[str, bytes]:
                    parts: dict[str, bytes] = {}
                    for name, size in values[field.name]:
                        parts[name], start = _cut(body, start, size)
                    values[field.name] = parts
                elif field.type is PrivacyStatement:
                    values[field.name] = PrivacyStatement(**values[field.name])
            message = cls(**values)
            if message.to_bytes() != data:
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise MessageError(f"{cls.kind()}: not one of this protocol: the sender may run another version") from None
        return message

    @classmethod
    def _magic(cls) -> bytes:
        return f"fedfin {cls.kind()} 1\n".encode()


def _cut(body: memoryview, start: int, size: object) -> tuple[bytes, int]:
    if type(size) is not int or not 0 <= size <= len(body) - start:
        raise ValueError
    return bytes(body[start : start + size]), start + size


def _checked(name: str, kind: Any, value: Any) -> Any:
    if kind is bytes:
        fits = isinstance(value, bytes)
    elif kind == Mapping[str, bytes]:
        fits = isinstance(value, Mapping) and all(is_name(k) and isinstance(v, bytes) for k, v in value.items())
        value = dict(sorted(value.items())) if fits else value
    elif kind == tuple[str, ...]:
        fits = isinstance(value, list | tuple) and all(map(is_name, value)) and list(value) == sorted(set(value))
        value = tuple(value) if fits else value
    elif kind is int:
        fits = type(value) is int and 0 <= value <= MAX_ROUND
    elif kind == int | None:
        fits = value is None or (type(value) is int and 1 <= value <= MAX_DECLARED_UNITS and value.bit_count() == 1)
    elif kind is float:
        fits = type(value) in (int, float) and math.isfinite(value) and value >= 0
        value = float(value) + 0.0 if fits else value
    else:
        fits = isinstance(value, kind)
    if not fits:
        _refuse(name)
    return value


def _refuse(name: str) -> NoReturn:
    raise MessageError(f"secure aggregation: {name} is of another kind: the sender may run another version")


@dataclass(frozen=True)
class AnnouncementRequest(SecureMessage):
    """The hub's first question: take part under these terms."""

    terms_json: str
    config_json: str
    code_digest: str


@dataclass(frozen=True)
class Announcement(SecureMessage):
    """The institution's key pair of this session, signed. `sealing` is an ML-KEM-768 and an X25519 key."""

    sealing: bytes
    declared_units: int | None
    signature: bytes


@dataclass(frozen=True)
class SharesRequest(SecureMessage):
    """The announcements of all, as their bytes, and the width of the sums."""

    bits: int
    announcements: Mapping[str, bytes]


@dataclass(frozen=True)
class DealtShares(SecureMessage):
    """Seeds of masks and shares for every other institution, sealed to its key, and the digests of all shares."""

    packets: Mapping[str, bytes]
    digests: bytes


@dataclass(frozen=True)
class PadsRequest(SecureMessage):
    """The packets that others sealed to this institution."""

    packets: Mapping[str, bytes]


@dataclass(frozen=True)
class Pads(SecureMessage):
    """The seeds that others chose, encrypted under this institution's secret of each round, for its absence.

    `unopened` names the dealers whose packets hold nothing that this institution can use.
    """

    pads: Mapping[str, bytes]
    unopened: tuple[str, ...]


@dataclass(frozen=True)
class MaskedSumRequest(SecureMessage):
    """The round's assignment, and the institutions that mask with each other in this session."""

    assignment: bytes
    members: tuple[str, ...]


@dataclass(frozen=True)
class MaskedSum(SecureMessage):
    """The institution's noised integers under masks.

    Attributes:
        values: Little-endian remainders, in the order of the adapter's tensors.
        spec_digest, code_digest, declared_units: As in a `Contribution`.
        statement: Figures under the assumption of the terms.
        epsilon_alone: The epsilon of `statement` without the assumption.
    """

    values: bytes
    spec_digest: str
    code_digest: str
    declared_units: int | None
    statement: PrivacyStatement
    epsilon_alone: float


@dataclass(frozen=True)
class ConfirmationRequest(SecureMessage):
    """The institutions whose masked sums have come."""

    survivors: tuple[str, ...]


@dataclass(frozen=True)
class Confirmation(SecureMessage):
    """The institution's signature over members and survivors of the round."""

    signature: bytes


@dataclass(frozen=True)
class UnmaskingRequest(SecureMessage):
    """The signatures over the survivors, by institution."""

    signatures: Mapping[str, bytes]


@dataclass(frozen=True)
class Unmasking(SecureMessage):
    """The seed of the institution's own mask, and for every other member one share of one of its two secrets."""

    seed: bytes
    shares: Mapping[str, bytes]


ANSWERS: tuple[type[SecureMessage], ...] = (Announcement, DealtShares, Pads, MaskedSum, Confirmation, Unmasking)
"""All that an institution sends under secure aggregation."""

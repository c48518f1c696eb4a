"""The two shapes every message is made of: canonical JSON, and a header followed by a body.

Both directions are exact: `canonical` writes every object that `parse_object` accepts back byte for byte, or the
caller refuses it, so that one meaning has one encoding and a digest or signature covers all of it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = [
    "AGENT_METHOD",
    "LARGEST_NUMBER",
    "MAX_ADAPTER_BYTES",
    "MAX_DECLARED_UNITS",
    "MAX_MESSAGE_BYTES",
    "MAX_NOISE_MULTIPLIER",
    "MAX_ROUND",
    "MAX_SEALED_BYTES",
    "canonical",
    "frame",
    "is_name",
    "parse_object",
    "unframe",
]

MAX_ADAPTER_BYTES = 512 * 2**20
"""The largest adapter, in bytes: 134 million float32 values."""
MAX_MESSAGE_BYTES = MAX_ADAPTER_BYTES + 16 * 2**20
MAX_SEALED_BYTES = MAX_MESSAGE_BYTES + 2**20

LARGEST_NUMBER = 1e18
"""Largest finite number in a configuration, a statement or a file of a run."""
MAX_ROUND = 2**31 - 1
MAX_DECLARED_UNITS = 2**40
MAX_NOISE_MULTIPLIER = 1e6
"""Largest noise multiplier of a statement. A run file allows 1,000, and a privacy officer may ask for more."""

AGENT_METHOD = "/fedfin.Agent/Handle"
"""The gRPC method that an institution's relay calls on its agent: a sealed assignment in, a sealed answer out."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,127}")
_LENGTH_BYTES = 4


def is_name(value: object) -> bool:
    """Whether `value` can name a run, a party or a kind of message: 1 to 128 ASCII characters, safe in a path."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return `value` as ASCII JSON with sorted keys, without spaces and NaN. Equal values give equal bytes.

    Raises:
        ValueError: a float is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def parse_object(data: bytes | str) -> dict[str, Any]:
    """Parse one JSON object. The caller bounds its length.

    Raises:
        ValueError: anything else, a repeated key, NaN, or nesting too deep. No other error is raised.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("not a finite number")


def frame(magic: bytes, header: bytes, body: bytes) -> bytes:
    """`magic`, the header's length (4 bytes, big-endian), the header, the body."""
    return b"".join((magic, len(header).to_bytes(_LENGTH_BYTES, "big"), header, body))


def unframe(magic: bytes, data: bytes, max_header_bytes: int) -> tuple[bytes, memoryview]:
    """Undo `frame`. The body is a view of `data`, so no declared length decides how much is allocated.

    Raises:
        ValueError: another magic, a header that is too long, or one cut short.
    """
    start = len(magic) + _LENGTH_BYTES
    if data[: len(magic)] != magic or len(data) < start:
        raise ValueError("it does not begin as one")
    length = int.from_bytes(data[len(magic) : start], "big")
    if length > max_header_bytes or start + length > len(data):
        raise ValueError("its header is cut short or too long")
    return data[start : start + length], memoryview(data)[start + length :]

"""Adapter <-> bytes, and the gate a foreign adapter must pass.

The bytes are a safetensors file (any safetensors reader opens them) in one canonical form: float32, or bfloat16 for
updates (see `common.protocol.updates`), tensors in order of name, nothing else in the header. For a given `Spec` and
type of numbers only one header is possible, so `decode` compares instead of parsing. A different header is read only to
say why it was refused, and no size is ever taken from it.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from common.canonical import MAX_ADAPTER_BYTES, canonical, parse_object
from common.config.aggregation import NumberType
from common.errors import AdapterRefused, MessageError

__all__ = ["Spec", "Tensors", "decode", "digest", "encode"]

Tensors = dict[str, NDArray[np.float32]]
"""The adapter as it travels: float32 arrays by wire name, sorted by name."""

_DTYPE = "F32"
_CODES: dict[NumberType, str] = {"float32": _DTYPE, "bfloat16": "BF16"}
"""Names of the types in a safetensors header."""
_ITEM_BYTES: dict[NumberType, int] = {"float32": 4, "bfloat16": 2}
_LENGTH_BYTES = 8
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_.-]{1,512}")
_MAX_DIMENSIONS = 8
_MAX_TENSORS = 100_000
_MAX_SPEC_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Spec:
    """Which tensors travel: (name, shape, dtype) of each, in order of name. dtype is "F32", the only one.

    Raises:
        MessageError: no tensor, a repeated or unusable name, a dimension below 1, another dtype, or beyond the
            largest adapter.
    """

    tensors: tuple[tuple[str, tuple[int, ...], str], ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.tensors) <= _MAX_TENSORS:
            raise MessageError(f"adapter spec: {len(self.tensors)} tensors: expected 1 to {_MAX_TENSORS}")
        for entry in self.tensors:
            _check_entry(entry)
        object.__setattr__(self, "tensors", tuple(sorted(self.tensors)))
        if len({name for name, _, _ in self.tensors}) != len(self.tensors):
            raise MessageError("adapter spec: a tensor is named twice: name each once")
        if self.data_bytes > MAX_ADAPTER_BYTES:
            raise MessageError(f"adapter spec: {self.data_bytes} bytes: an adapter may hold {MAX_ADAPTER_BYTES}")

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> "Spec":
        """The spec that `tensors` satisfy.

        Raises:
            AdapterRefused: a tensor is not float32 (code "dtype").
            MessageError: as for the constructor.
        """
        for name, value in tensors.items():
            if value.dtype != np.float32:
                raise AdapterRefused("dtype", f"adapter tensor {_show(name)}: {value.dtype}: convert it to float32")
        return cls(tuple((name, tuple(value.shape), _DTYPE) for name, value in tensors.items()))

    @property
    def parameters(self) -> int:
        """How many numbers travel."""
        return sum(math.prod(shape) for _, shape, _ in self.tensors)

    @property
    def data_bytes(self) -> int:
        """Size of the numbers alone in float32, in bytes."""
        return _ITEM_BYTES["float32"] * self.parameters

    @cached_property
    def header(self) -> bytes:
        """The header of the tensors in float32. See `header_of`."""
        return self.header_of("float32")

    def size(self, numbers: NumberType = "float32") -> int:
        """Return the size of the encoded tensors, in bytes."""
        return len(self.header_of(numbers)) + _ITEM_BYTES[numbers] * self.parameters

    def header_of(self, numbers: NumberType) -> bytes:
        """Return the only bytes that may come before the numbers: those the safetensors library writes.

        Written here and not by it, so that an adapter's digest does not depend on the library's release.

        Args:
            numbers: Type of the numbers that follow.
        """
        entries: dict[str, Any] = {}
        start = 0
        for name, shape, _ in self.tensors:
            end = start + _ITEM_BYTES[numbers] * math.prod(shape)
            entries[name] = {"dtype": _CODES[numbers], "shape": list(shape), "data_offsets": [start, end]}
            start = end
        text = json.dumps(entries, separators=(",", ":")).encode("ascii")
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(_LENGTH_BYTES, "little") + text

    def to_json(self) -> str:
        """Return canonical JSON. Equal specs give equal text."""
        return canonical({"tensors": [[name, list(shape), dtype] for name, shape, dtype in self.tensors]}).decode()

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Read the text that `to_json` wrote, and nothing else.

        Raises:
            MessageError: on any other text.
        """
        if len(text) > _MAX_SPEC_BYTES:
            raise MessageError(f"adapter spec: {len(text)} characters: at most {_MAX_SPEC_BYTES}")
        try:
            entries = parse_object(text)["tensors"]
            spec = cls(tuple((name, tuple(shape), dtype) for name, shape, dtype in entries))
        except (ValueError, KeyError, TypeError):
            raise MessageError(
                "adapter spec: not a list of name, shape and dtype: ask the sender for its version"
            ) from None
        if spec.to_json() != text:
            raise MessageError("adapter spec: not in canonical form: ask the sender for its version")
        return spec

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _check_entry(entry: tuple[object, object, object]) -> None:
    name, shape, dtype = entry
    if not isinstance(name, str) or _TENSOR_NAME.fullmatch(name) is None or name == "__metadata__":
        raise MessageError(f"adapter spec: {_show(name)} cannot name a tensor: use letters, digits, '_', '.' and '-'")
    if dtype != _DTYPE:
        raise MessageError(f"adapter spec: tensor {name} is {_show(dtype)}: only {_DTYPE} travels")
    if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise MessageError(f"adapter spec: tensor {name}: a shape has at most {_MAX_DIMENSIONS} dimensions")
    # `type(...) is int`: True would pass as a 1 and be written back as `true`.
    if any(type(size) is not int or not 0 < size <= MAX_ADAPTER_BYTES for size in shape):
        raise MessageError(f"adapter spec: tensor {name}: a dimension is not between 1 and {MAX_ADAPTER_BYTES}")


def encode(tensors: Mapping[str, NDArray[Any]], numbers: NumberType = "float32") -> bytes:
    """`tensors` as canonical safetensors bytes: equal tensors give equal bytes, whatever their order or layout.

    Values are not judged here (a NaN travels and is refused by `decode` on the other side).

    Args:
        tensors: Arrays in float32, by name.
        numbers: Type of the numbers in the bytes. "bfloat16" rounds them to nearest, ties to even.

    Raises:
        AdapterRefused: a tensor is not float32 (code "dtype").
        MessageError: a name or shape that no `Spec` allows.
    """
    spec = Spec.of(tensors)
    write = _to_bfloat16 if numbers == "bfloat16" else _to_float32
    return spec.header_of(numbers) + b"".join(write(tensors[name]) for name, _, _ in spec.tensors)


def decode(data: bytes, spec: Spec, max_bytes: int = MAX_ADAPTER_BYTES, numbers: NumberType = "float32") -> Tensors:
    """Read an adapter that must be exactly of `spec`. Arrays are fresh, writable, float32 and sorted by name.

    Guarantee: for any bytes, either `encode(decode(data, spec)) == data` or AdapterRefused is raised. Memory stays
    within a small multiple of `len(data)`.

    Args:
        data: The bytes.
        spec: The tensors that they must hold.
        max_bytes: Largest size that is read.
        numbers: Type of the numbers in the bytes.

    Raises:
        AdapterRefused: code "too_large", "malformed", "missing", "extra", "dtype", "shape" or "non_finite".
    """
    if len(data) > max_bytes:
        raise AdapterRefused("too_large", f"adapter: {len(data)} bytes: at most {max_bytes} are taken")
    header = spec.header if numbers == "float32" else spec.header_of(numbers)
    if not data.startswith(header):
        _refuse_header(data, spec, header, _CODES[numbers])
    found, declared = len(data) - len(header), _ITEM_BYTES[numbers] * spec.parameters
    if found != declared:
        raise AdapterRefused("malformed", f"adapter: {found} bytes of numbers: its header declares {declared}")
    flat = np.frombuffer(data, dtype="<f4" if numbers == "float32" else "<u2", offset=len(header))
    tensors: Tensors = {}
    start = 0
    for name, shape, _ in spec.tensors:
        values = flat[start : start + math.prod(shape)]
        start += values.size
        if numbers == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise AdapterRefused("non_finite", f"adapter tensor {name}: holds NaN or infinity: training diverged")
        # A copy each: a tensor kept for long must not keep the whole adapter alive.
        tensors[name] = values.reshape(shape).astype(np.float32)
    return tensors


def digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of `encode(tensors)`, in hex. Raises as `encode` does."""
    return hashlib.sha256(encode(tensors)).hexdigest()


def _to_float32(values: NDArray[np.float32]) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _to_bfloat16(values: NDArray[np.float32]) -> bytes:
    """Return the upper halves of float32 numbers, rounded to nearest with ties to even. A NaN stays one."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype("<u2").tobytes()


def _refuse_header(data: bytes, spec: Spec, header: bytes, code: str) -> NoReturn:
    """Say why a header is not `header`, that of `spec` with numbers of type `code`.

    It is parsed for that alone, and never far beyond the expected length.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > min(len(data) - _LENGTH_BYTES, 4 * len(header) + 2**16):
        raise AdapterRefused("malformed", "adapter: its header is cut short or too long: not an adapter of this run")
    try:
        found = parse_object(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except ValueError:
        raise AdapterRefused("malformed", "adapter: its header is not JSON: not a safetensors file") from None
    expected = {name: list(shape) for name, shape, _ in spec.tensors}
    for name in expected:
        if name not in found:
            raise AdapterRefused("missing", f"adapter tensor {name}: missing: export what the run's spec lists")
    for name in found:
        if name not in expected:
            raise AdapterRefused("extra", f"adapter tensor {_show(name)}: not in the run's spec: leave it out")
    for name, shape in expected.items():
        entry = found[name] if isinstance(found[name], dict) else {}
        if entry.get("dtype") != code:
            raise AdapterRefused("dtype", f"adapter tensor {name}: {_show(entry.get('dtype'))}: only {code} is taken")
        if entry.get("shape") != shape:
            raise AdapterRefused("shape", f"adapter tensor {name}: {_show(entry.get('shape'))}: expected {shape}")
    raise AdapterRefused("malformed", "adapter: its header is not in canonical form: encode it with this package")


def _show(value: object) -> str:
    """A foreign value, safe in a one-line message."""
    return ascii(value)[:80]

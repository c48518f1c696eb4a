"""The codec: one encoding per adapter, and a gate that says why it refuses."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import AdapterRefused, MessageError
from common.protocol.adapter_codec import Spec, Tensors, decode, digest, encode

NAMES = st.text("abzAZ019_.-", min_size=1, max_size=20).filter(lambda name: name != "__metadata__")
FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
ADAPTERS = st.dictionaries(NAMES, FLOATS, min_size=1, max_size=5)

ADAPTER: Tensors = {
    "model.lora_B.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    "classifier.weight": np.ones((2, 4), np.float32),
}
SPEC = Spec.of(ADAPTER)


def raw(header: object, numbers: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def refusal(data: bytes, spec: Spec = SPEC, **limits: int) -> str:
    with pytest.raises(AdapterRefused) as caught:
        decode(data, spec, **limits)
    assert "\n" not in str(caught.value)
    return caught.value.code


@given(ADAPTERS)
def test_decoding_gives_back_every_tensor_and_encoding_again_every_byte(adapter: Tensors) -> None:
    data = encode(adapter)
    back = decode(data, Spec.of(adapter))
    assert list(back) == sorted(adapter)
    for name, value in adapter.items():
        assert back[name].tobytes() == value.tobytes()
        assert back[name].shape == value.shape
        assert back[name].dtype == np.float32
        assert back[name].flags.writeable
        assert back[name].flags.c_contiguous
    assert encode(back) == data


@given(ADAPTERS, st.randoms())
def test_equal_tensors_give_equal_bytes_whatever_their_order_and_layout(adapter: Tensors, random) -> None:
    names = list(adapter)
    random.shuffle(names)
    other = {name: adapter[name].copy(order="F") for name in names}
    assert encode(other) == encode(adapter)
    assert digest(other) == digest(adapter)
    assert Spec.of(other).digest() == Spec.of(adapter).digest()


@given(ADAPTERS)
def test_the_bytes_are_what_the_safetensors_library_writes_and_reads(adapter: Tensors) -> None:
    data = encode(adapter)
    assert safetensors.numpy.save(adapter) == data
    loaded = safetensors.numpy.load(data)
    assert {name: value.tobytes() for name, value in loaded.items()} == {n: v.tobytes() for n, v in adapter.items()}


def test_the_digest_changes_with_a_value_a_name_and_a_shape() -> None:
    changed = {**ADAPTER, "classifier.weight": np.full((2, 4), 2, np.float32)}
    renamed = {"classifier.weighs" if n == "classifier.weight" else n: v for n, v in ADAPTER.items()}
    reshaped = {**ADAPTER, "classifier.weight": np.ones((4, 2), np.float32)}
    assert len({digest(each) for each in (ADAPTER, changed, renamed, reshaped)}) == 4


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.dtype(">f4")])
def test_only_float32_is_encoded(dtype: np.dtype) -> None:
    with pytest.raises(AdapterRefused) as caught:
        encode({"w": np.zeros(2, dtype)})
    assert caught.value.code == "dtype"


def test_a_missing_tensor_is_refused() -> None:
    assert refusal(encode({"classifier.weight": ADAPTER["classifier.weight"]})) == "missing"


def test_an_extra_tensor_is_refused() -> None:
    assert refusal(encode({**ADAPTER, "zz": np.zeros(1, np.float32)})) == "extra"


def test_metadata_is_an_extra() -> None:
    assert refusal(safetensors.numpy.save(ADAPTER, metadata={"note": "rows: 1234"})) == "extra"


def test_another_shape_is_refused_even_of_the_same_size() -> None:
    assert refusal(encode({**ADAPTER, "classifier.weight": np.ones((4, 2), np.float32)})) == "shape"


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_another_dtype_is_refused(dtype: type) -> None:
    other = {**ADAPTER, "classifier.weight": np.ones((2, 4), dtype)}
    assert refusal(safetensors.numpy.save(other)) == "dtype"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(ADAPTER))
def test_a_value_that_is_not_finite_is_refused_wherever_it_stands(name: str, value: float) -> None:
    bad = ADAPTER[name].copy()
    bad[-1, -1] = value
    assert refusal(encode({**ADAPTER, name: bad})) == "non_finite"


def test_more_bytes_than_allowed_are_refused_and_exactly_as_many_are_taken() -> None:
    data = encode(ADAPTER)
    assert refusal(data, max_bytes=len(data) - 1) == "too_large"
    decode(data, SPEC, max_bytes=len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        raw(b"{"),
        raw(b"[]"),
        raw(b"[" * 5000),
        raw(b"\xff\xfe\xfd"),
        raw(b'{"a":1' + b"0" * 5000 + b"}"),
        raw({}, length=2**63),
        encode(ADAPTER)[:-1],
        encode(ADAPTER) + b"\0",
        raw({"a": 1, "b": 2})[:-3],
    ],
)
def test_garbage_is_malformed(data: bytes) -> None:
    assert refusal(data) == "malformed"


def test_the_right_tensors_in_another_form_are_malformed() -> None:
    header = {
        "classifier.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
        "model.lora_B.weight": {"dtype": "F32", "shape": [3, 2], "data_offsets": [32, 56]},
    }
    assert refusal(raw(header, bytes(56))) == "malformed"


def test_sizes_that_a_header_declares_allocate_nothing() -> None:
    header = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 2**60]} for name, shape, _ in SPEC.tensors
    }
    header["classifier.weight"]["shape"] = [2**30, 2**30]
    data = raw(header)
    tracemalloc.start()
    try:
        assert refusal(data) == "shape"
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


def test_a_long_header_is_refused_before_it_is_parsed() -> None:
    data = raw(b"[" + b"1," * 2_000_000 + b"1]")
    tracemalloc.start()
    try:
        assert refusal(data) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    refusal(data)


@settings(max_examples=300)
@given(st.integers(0, len(encode(ADAPTER)) * 8 - 1))
def test_a_flipped_bit_is_refused_or_decodes_to_those_very_bytes(bit: int) -> None:
    data = bytearray(encode(ADAPTER))
    data[bit // 8] ^= 1 << bit % 8
    try:
        back = decode(bytes(data), SPEC)
    except AdapterRefused:
        return
    assert encode(back) == bytes(data)
    assert bit // 8 >= len(SPEC.header)


@given(st.integers(0, len(encode(ADAPTER)) - 1))
def test_a_truncation_is_malformed(length: int) -> None:
    assert refusal(encode(ADAPTER)[:length]) == "malformed"


@given(ADAPTERS, ADAPTERS)
def test_an_adapter_passes_the_gate_of_its_own_spec_alone(one: Tensors, other: Tensors) -> None:
    if Spec.of(one) == Spec.of(other):
        decode(encode(one), Spec.of(other))
    else:
        assert refusal(encode(one), Spec.of(other)) in {"missing", "extra", "shape"}


@given(ADAPTERS)
def test_a_spec_survives_its_json(adapter: Tensors) -> None:
    spec = Spec.of(adapter)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.parameters == sum(value.size for value in adapter.values())


def test_a_spec_is_sorted_by_name_however_it_is_given() -> None:
    assert Spec(tuple(reversed(SPEC.tensors))) == SPEC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        '{"tensors":1}',
        '{"tensors":[]}',
        '{"tensors":[["a",[1],"F32",1]]}',
        '{"tensors":[["a",[1],"F16"]]}',
        '{"tensors":[["a",[0],"F32"]]}',
        '{"tensors":[["a",[-1],"F32"]]}',
        '{"tensors":[["a",[true],"F32"]]}',
        '{"tensors":[["a",[1.0],"F32"]]}',
        '{"tensors":[["a","1","F32"]]}',
        '{"tensors":[["a",{"1":1},"F32"]]}',
        '{"tensors":[["a/b",[1],"F32"]]}',
        '{"tensors":[["__metadata__",[1],"F32"]]}',
        '{"tensors":[[1,[1],"F32"]]}',
        '{"tensors":[["a",[1],"F32"],["a",[1],"F32"]]}',
        '{"tensors":[["b",[1],"F32"],["a",[1],"F32"]]}',
        '{"tensors": [["a",[1],"F32"]]}',
        '{"tensors":[["a",[1],"F32"]],"x":1}',
        '{"tensors":[["a",[1],"F32"]],"tensors":[["a",[1],"F32"]]}',
        '{"tensors":[["a",[134217729],"F32"]]}',
        '{"tensors":[["a",[99999,99999,99999],"F32"]]}',
        '{"tensors":[["\\ud800",[1],"F32"]]}',
    ],
)
def test_a_spec_that_is_not_canonical_or_not_possible_is_refused(text: str) -> None:
    with pytest.raises(MessageError):
        Spec.from_json(text)


@given(st.text())
def test_random_text_is_no_spec(text: str) -> None:
    with pytest.raises(MessageError):
        Spec.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", "a"]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@given(st.lists(JSON | st.tuples(JSON, JSON, JSON), max_size=3))
def test_random_json_is_a_spec_in_canonical_form_or_refused(entries: list[Any]) -> None:
    text = json.dumps({"tensors": entries}, separators=(",", ":"))
    try:
        spec = Spec.from_json(text)
    except MessageError:
        return
    assert spec.to_json() == text

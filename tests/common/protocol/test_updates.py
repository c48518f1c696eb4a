"""Updates on the wire: in bfloat16 half the bytes, an error bounded by the change, and a gate as for float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from common.errors import AdapterRefused
from common.protocol.adapter_codec import Spec, Tensors, decode, encode
from common.protocol.updates import decode_update, encode_update

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)
ANY = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32))
LARGEST = float(np.finfo(np.float32).max)


def numbers(bound: float, shape: Any = (3, 5)) -> st.SearchStrategy[NDArray[np.float32]]:
    return hnp.arrays(np.float32, shape, elements=st.floats(-bound, bound, width=32))


def round_trip(adapter: Tensors, sent: Tensors, kind: Any = "bfloat16") -> Tensors:
    return decode_update(encode_update(adapter, sent, kind), Spec.of(sent), sent, kind)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(AdapterRefused) as caught:
        call()
    return caught.value.code


@given(ANY)
def test_bfloat16_is_rounded_as_torch_rounds_it(values: NDArray[np.float32]) -> None:
    read = safetensors.torch.load(encode({"w": values}, "bfloat16"))["w"]
    expected = torch.from_numpy(np.array(values)).to(torch.bfloat16)
    assert read.shape == values.shape
    np.testing.assert_array_equal(read.float().numpy(), expected.float().numpy())


def test_every_number_is_rounded_to_nearest_with_ties_to_even_and_no_nan_becomes_a_number() -> None:
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = ((np.arange(2**16, dtype=np.uint32) << 16)[:, None] | low).view(np.float32)
    words = np.frombuffer(encode({"w": values}, "bfloat16")[-2 * values.size :], "<u2").reshape(values.shape)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    is_nan = np.isnan(values)
    np.testing.assert_array_equal(words[~is_nan], expected[~is_nan])
    assert (words[is_nan] & 0x7FFF > 0x7F80).all()


@given(st.lists(st.integers(0, 2**16 - 1), min_size=6, max_size=6))
def test_any_bytes_are_read_back_to_the_bit_or_refused(words: list[int]) -> None:
    spec = Spec.of({"a": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)})
    data = spec.header_of("bfloat16") + np.array(words, "<u2").tobytes()
    if all(word & 0x7F80 != 0x7F80 for word in words):
        assert encode(decode(data, spec, numbers="bfloat16"), "bfloat16") == data
    else:
        assert refusal(lambda: decode(data, spec, numbers="bfloat16")) == "non_finite"


@given(numbers(1e3), numbers(1e3))
def test_the_error_is_at_most_a_part_in_256_of_the_change(
    sent: NDArray[np.float32], trained: NDArray[np.float32]
) -> None:
    change = trained.astype(np.float64) - sent
    got = round_trip({"w": trained}, {"w": sent})["w"].astype(np.float64)
    # Two roundings in float32, of the difference and of the sum, and the smallest numbers that are left.
    float32 = 2.0**-24 * (np.abs(change) + np.abs(got)) + 2.0**-133
    assert (np.abs(got - trained) <= np.abs(change) / 256 + 2 * float32).all()


def test_a_small_change_of_a_large_weight_arrives_and_would_be_lost_if_weights_were_rounded() -> None:
    sent = {"w": np.full(4, 1.7, np.float32)}
    trained = {"w": sent["w"] + np.float32(1e-3)}
    np.testing.assert_allclose(round_trip(trained, sent)["w"] - sent["w"], 1e-3, rtol=5e-3)
    weights = [decode(encode(each, "bfloat16"), Spec.of(each), numbers="bfloat16")["w"] for each in (sent, trained)]
    np.testing.assert_array_equal(*weights)


@given(numbers(LARGEST), numbers(LARGEST))
def test_in_float32_an_update_is_the_adapter_to_the_bit(
    sent: NDArray[np.float32], trained: NDArray[np.float32]
) -> None:
    assert encode_update({"w": trained}, {"w": sent}, "float32") == encode({"w": trained})
    assert round_trip({"w": trained}, {"w": sent}, "float32")["w"].tobytes() == trained.tobytes()


@given(numbers(LARGEST))
def test_an_unchanged_adapter_is_an_update_of_nothing(sent: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(round_trip({"w": sent}, {"w": sent})["w"], sent)


@given(numbers(LARGEST), hnp.arrays(np.float32, (3, 5), elements=st.floats(width=32)))
def test_what_the_hub_takes_is_finite_whatever_was_trained(
    sent: NDArray[np.float32], trained: NDArray[np.float32]
) -> None:
    try:
        taken = round_trip({"w": trained}, {"w": sent})["w"]
    except AdapterRefused:
        assert refusal(lambda: round_trip({"w": trained}, {"w": sent})) == "non_finite"
    else:
        assert np.isfinite(taken).all()


def test_a_sum_beyond_float32_is_refused() -> None:
    sent = {"w": np.full(2, LARGEST, np.float32)}
    data = encode({"w": np.full(2, 1e38, np.float32)}, "bfloat16")
    assert refusal(lambda: decode_update(data, Spec.of(sent), sent, "bfloat16")) == "non_finite"


@pytest.mark.parametrize(("sent_as", "read_as"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_the_other_type_of_numbers_is_refused_by_name(sent_as: Any, read_as: Any) -> None:
    sent = {"w": np.ones(3, np.float32)}
    data = encode_update(sent, sent, sent_as)
    assert refusal(lambda: decode_update(data, Spec.of(sent), sent, read_as)) == "dtype"


def test_the_numbers_take_half_the_bytes() -> None:
    spec = Spec.of({"a": np.zeros((64, 9), np.float32), "b": np.zeros(5, np.float32)})
    assert spec.size("bfloat16") - len(spec.header_of("bfloat16")) == spec.data_bytes // 2
    assert spec.size() - len(spec.header) == spec.data_bytes
    assert spec.size("bfloat16") == len(encode({n: np.ones(s, np.float32) for n, s, _ in spec.tensors}, "bfloat16"))

"""Frames and JSON objects: exact in both directions, bounded by the caller, ValueError on anything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.canonical import canonical, frame, is_name, parse_object, unframe

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@given(OBJECTS)
def test_an_object_survives_and_its_order_does_not_matter(value: dict[str, Any]) -> None:
    assert parse_object(canonical(value)) == value
    assert canonical(dict(reversed(value.items()))) == canonical(value)
    assert canonical(value).isascii()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_neither_written_nor_read(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": number})
    with pytest.raises(ValueError, match="finite"):
        parse_object(json.dumps({"a": number}))


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"b":{"a":1,"a":2}}'])
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(ValueError, match="repeated"):
        parse_object(text)


@given(st.binary(max_size=50) | st.text(max_size=50) | st.integers(0, 10**5).map(lambda n: "[" * n))
def test_random_input_is_an_object_or_a_value_error(data: bytes | str) -> None:
    try:
        assert isinstance(parse_object(data), dict)
    except ValueError:
        return


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_frame_gives_back_its_parts(header: bytes, body: bytes) -> None:
    found, rest = unframe(b"magic\n", frame(b"magic\n", header, body), 20)
    assert (found, bytes(rest)) == (header, body)


def test_a_header_is_taken_up_to_its_bound_and_no_further() -> None:
    data = frame(b"magic\n", b"h" * 21, b"body")
    assert unframe(b"magic\n", data, 21)[0] == b"h" * 21
    with pytest.raises(ValueError, match="too long"):
        unframe(b"magic\n", data, 20)


@pytest.mark.parametrize("data", [b"", b"magic", b"magic\n", b"magic\n\0\0\0", b"other\n\0\0\0\0", b"magic\n\0\0\0\1"])
def test_a_frame_cut_short_or_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"begin|short"):
        unframe(b"magic\n", data, 20)


@pytest.mark.parametrize("name", ["hub", "Bank of X", "run-1.2_b", "0", "x" * 128])
def test_a_plain_name_is_one(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", " a", "-a", ".a", "_a", "a/b", "a\\b", "a\n", "a\0", "ä", "x" * 129, 1, None, b"a"]
)
def test_a_name_that_could_mislead_a_path_or_a_log_is_none(name: object) -> None:
    assert not is_name(name)

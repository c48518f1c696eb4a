"""Messages: one encoding each, nothing private in them, and MessageError on anything else."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import MessageError
from common.protocol.messages import Assignment, Contribution, PrivacyStatement, Receipt, Refusal, RefusalCode

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
RUNS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9 _.-]{0,20}\Z")
ROUNDS = st.integers(0, 2**31 - 1)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
STATEMENTS = st.builds(
    PrivacyStatement,
    noise_multiplier=POSITIVE,
    clipping_norm=POSITIVE,
    steps=st.integers(1, 10**6),
    delta=st.floats(1e-300, 1, exclude_max=True),
    epsilon=st.floats(0, 1e300),
    sampling_probability=st.none() | st.floats(1e-9, 1),
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)
ASSIGNMENTS = st.builds(
    Assignment,
    run_id=RUNS,
    round=ROUNDS,
    config_json=TEXT,
    spec_json=TEXT,
    adapter=st.binary(max_size=100),
    code_digest=DIGESTS,
    share=st.floats(0, 1),
    members=st.integers(0, 100),
)
CONTRIBUTIONS = st.builds(
    Contribution,
    run_id=RUNS,
    round=ROUNDS,
    adapter=st.binary(max_size=100),
    spec_digest=DIGESTS,
    code_digest=DIGESTS,
    statement=st.none() | STATEMENTS,
    declared_units=st.none() | st.integers(0, 40).map(lambda power: 1 << power),
)
REFUSALS = st.builds(Refusal, run_id=RUNS, round=ROUNDS, code=st.sampled_from(RefusalCode))
RECEIPTS = st.builds(Receipt, run_id=RUNS, round=ROUNDS)
MESSAGES = ASSIGNMENTS | CONTRIBUTIONS | RECEIPTS | REFUSALS
KINDS = [Assignment, Contribution, Receipt, Refusal]

STATEMENT = PrivacyStatement(noise_multiplier=1.0, clipping_norm=1.0, steps=5, delta=1e-5, epsilon=0.7)
ASSIGNMENT = Assignment("run-1", 2, '{"a":1}', "{}", b"adapter", "0" * 64)
CONTRIBUTION = Contribution("run-1", 2, b"adapter", "1" * 64, "0" * 64, STATEMENT, 512)
REFUSAL = Refusal("run-1", 2, RefusalCode.BUDGET)
EXAMPLES = [ASSIGNMENT, CONTRIBUTION, Receipt("run-1", 3), REFUSAL]


def refused(kind: type[Any], data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        kind.from_bytes(data)
    assert "\n" not in str(caught.value)


@given(MESSAGES)
def test_a_message_survives_its_bytes(message) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message


@given(MESSAGES)
def test_a_message_is_not_read_as_one_of_another_kind(message) -> None:
    for kind in KINDS:
        if kind is not type(message):
            refused(kind, message.to_bytes())


def test_what_leaves_an_institution_is_this_and_no_more() -> None:
    """A new field here is a new disclosure: change docs/ and this list on purpose, or not at all."""
    assert {field.name for field in fields(Contribution)} == {
        "run_id", "round", "adapter", "spec_digest", "code_digest", "statement", "declared_units",
    }  # fmt: skip
    assert {field.name for field in fields(PrivacyStatement)} == {
        "noise_multiplier", "clipping_norm", "steps", "delta", "epsilon", "sampling_probability",
    }  # fmt: skip
    assert {field.name for field in fields(Receipt)} == {"run_id", "round"}
    assert {field.name for field in fields(Refusal)} == {"run_id", "round", "code"}


@given(st.binary(max_size=300), st.sampled_from(EXAMPLES), st.booleans())
def test_random_bytes_are_refused(data: bytes, example, begin: bool) -> None:
    magic = example.to_bytes().partition(b"\n")[0] + b"\n"
    refused(type(example), magic + data if begin else data)


@settings(max_examples=400)
@given(st.sampled_from(EXAMPLES), st.data())
def test_a_flipped_bit_is_refused_or_gives_a_message_of_those_very_bytes(example, data) -> None:
    raw = bytearray(example.to_bytes())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        message = type(example).from_bytes(bytes(raw))
    except MessageError:
        return
    assert message.to_bytes() == bytes(raw)
    assert message != example


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_truncation_is_refused_or_shortens_the_adapter_alone(example, data) -> None:
    raw = example.to_bytes()
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        message = type(example).from_bytes(cut)
    except MessageError:
        return
    assert replace(message, adapter=example.adapter) == example


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("0" * 64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=300)
@given(st.sampled_from(EXAMPLES), st.data(), JSON)
def test_a_field_of_another_type_is_refused_or_canonical(example, data, value) -> None:
    raw = example.to_bytes()
    magic, _, rest = raw.partition(b"\n")
    length = int.from_bytes(rest[:4], "big")
    header, body = json.loads(rest[4 : 4 + length]), rest[4 + length :]
    key = data.draw(st.sampled_from([*sorted(header), "adapter", "surplus"]))
    header[key] = value
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    changed = magic + b"\n" + len(text).to_bytes(4, "big") + text + body
    try:
        message = type(example).from_bytes(changed)
    except MessageError:
        return
    assert message.to_bytes() == changed


def with_header(example, text: bytes) -> bytes:
    magic, _, rest = example.to_bytes().partition(b"\n")
    return magic + b"\n" + len(text).to_bytes(4, "big") + text + rest[4 + int.from_bytes(rest[:4], "big") :]


def test_a_second_encoding_of_the_same_message_is_refused() -> None:
    text = json.dumps({"code": "budget", "round": 2, "run_id": "run-1"}, separators=(",", ":")).encode()
    assert Refusal.from_bytes(with_header(REFUSAL, text)) == REFUSAL
    refused(Refusal, with_header(REFUSAL, text.replace(b",", b", ")))
    refused(Refusal, with_header(REFUSAL, b'{"round":2,"code":"budget","run_id":"run-1"}'))
    refused(Refusal, with_header(REFUSAL, b'{"code":"budget","code":"budget","round":2,"run_id":"run-1"}'))
    refused(Refusal, REFUSAL.to_bytes() + b"x")
    refused(Refusal, with_header(REFUSAL, b"[" * 100_000))


def test_more_bytes_than_allowed_are_refused() -> None:
    data = ASSIGNMENT.to_bytes()
    assert Assignment.from_bytes(data, max_bytes=len(data)) == ASSIGNMENT
    with pytest.raises(MessageError):
        Assignment.from_bytes(data, max_bytes=len(data) - 1)


def test_a_message_too_large_for_its_receiver_is_not_sent() -> None:
    with pytest.raises(MessageError, match="too large"):
        replace(ASSIGNMENT, config_json="x" * (13 * 2**20)).to_bytes()


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (ASSIGNMENT, {"run_id": "../x"}),
        (ASSIGNMENT, {"run_id": ""}),
        (ASSIGNMENT, {"round": -1}),
        (ASSIGNMENT, {"round": True}),
        (ASSIGNMENT, {"round": 2**31}),
        (ASSIGNMENT, {"config_json": "\ud800"}),
        (ASSIGNMENT, {"config_json": b"{}"}),
        (ASSIGNMENT, {"spec_json": None}),
        (ASSIGNMENT, {"adapter": "text"}),
        (ASSIGNMENT, {"code_digest": "0" * 63}),
        (ASSIGNMENT, {"code_digest": "G" * 64}),
        (CONTRIBUTION, {"spec_digest": "A" * 64}),
        (CONTRIBUTION, {"adapter": None}),
        (CONTRIBUTION, {"statement": {"epsilon": 1}}),
        (CONTRIBUTION, {"declared_units": 0}),
        (CONTRIBUTION, {"declared_units": 500}),
        (CONTRIBUTION, {"declared_units": 2**41}),
        (CONTRIBUTION, {"declared_units": True}),
        (REFUSAL, {"code": "a loss of 0.3"}),
        (REFUSAL, {"code": []}),
        (STATEMENT, {"noise_multiplier": 0.0}),
        (STATEMENT, {"noise_multiplier": -1.0}),
        (STATEMENT, {"noise_multiplier": float("nan")}),
        (STATEMENT, {"noise_multiplier": 10**400}),
        (STATEMENT, {"noise_multiplier": True}),
        (STATEMENT, {"clipping_norm": float("inf")}),
        (STATEMENT, {"clipping_norm": "1"}),
        (STATEMENT, {"steps": 0}),
        (STATEMENT, {"steps": 1.0}),
        (STATEMENT, {"delta": 0.0}),
        (STATEMENT, {"delta": 1.0}),
        (STATEMENT, {"epsilon": -0.1}),
        (STATEMENT, {"epsilon": -0.0}),
        (STATEMENT, {"epsilon": float("inf")}),
        (STATEMENT, {"sampling_probability": 0.0}),
        (STATEMENT, {"sampling_probability": 1.1}),
    ],
)
def test_a_field_out_of_range_is_refused_where_it_is_made(message, change: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match=next(iter(change))):
        replace(message, **change)


def test_a_whole_number_in_a_statement_is_the_same_statement() -> None:
    assert replace(STATEMENT, noise_multiplier=1, sampling_probability=1) == replace(
        STATEMENT, sampling_probability=1.0
    )
    whole = replace(CONTRIBUTION, statement=replace(STATEMENT, clipping_norm=1))
    assert whole.to_bytes() == CONTRIBUTION.to_bytes()


def test_the_refusal_codes_are_the_closed_list() -> None:
    assert {str(code) for code in RefusalCode} == {
        "budget", "config", "base_model", "task", "privacy_limit", "replay", "busy", "error",
    }  # fmt: skip

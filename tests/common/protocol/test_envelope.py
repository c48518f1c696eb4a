"""The envelope: opens for one recipient, from one sender, in one place. Anything else is refused by code."""

import contextlib
import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import EnvelopeError
from common.identity.keys import PrivateKeys
from common.protocol.envelope import MessageContext, PublicKeys, open_sealed, peek, seal

HUB, BANK, MALLORY = PrivateKeys.generate("hub"), PrivateKeys.generate("north_bank"), PrivateKeys.generate("mallory")
CONTEXT = MessageContext("run-1", 3, "contribution", "north_bank", "hub")
PAYLOAD = b"an adapter" * 20
SEALED = seal(PAYLOAD, BANK, HUB.public, CONTEXT)
MAGIC = b"fedfin envelope 1\n"
HEADER_AT = len(MAGIC) + 4


def parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, signature, ciphertext, taken apart without the code under test."""
    end = HEADER_AT + int.from_bytes(data[len(MAGIC) : HEADER_AT], "big")
    return data[HEADER_AT:end], data[end : end + 64], data[end + 64 :]


def assemble(header: bytes, signature: bytes, ciphertext: bytes) -> bytes:
    return MAGIC + len(header).to_bytes(4, "big") + header + signature + ciphertext


def refusal(
    data: bytes,
    recipient: PrivateKeys = HUB,
    sender: PublicKeys = BANK.public,
    context: MessageContext = CONTEXT,
    **limits,
):
    with pytest.raises(EnvelopeError) as caught:
        open_sealed(data, recipient, sender, context, **limits)
    assert "\n" not in str(caught.value)
    return caught.value.code


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens(payload: bytes) -> None:
    assert open_sealed(seal(payload, BANK, HUB.public, CONTEXT), HUB, BANK.public, CONTEXT) == payload


def test_sealing_twice_shows_nothing_of_the_payload_being_the_same() -> None:
    again = seal(PAYLOAD, BANK, HUB.public, CONTEXT)
    assert parts(again)[2] != parts(SEALED)[2]
    assert PAYLOAD[:10] not in SEALED


@pytest.mark.parametrize(
    "change",
    [{"run_id": "run-2"}, {"round": 4}, {"kind": "refusal"}],
)
def test_an_envelope_opens_in_its_own_place_alone(change: dict[str, Any]) -> None:
    assert refusal(SEALED, context=replace(CONTEXT, **change)) == "context"


def test_an_envelope_for_another_is_refused() -> None:
    other = PrivateKeys.generate("south_bank")
    assert refusal(SEALED, recipient=other, context=replace(CONTEXT, recipient="south_bank")) == "context"
    assert refusal(SEALED, sender=other.public, context=replace(CONTEXT, sender="south_bank")) == "context"


def test_the_same_names_with_other_keys_are_refused() -> None:
    assert refusal(SEALED, sender=PrivateKeys.generate("north_bank").public) == "keys"
    assert refusal(SEALED, recipient=PrivateKeys.generate("hub")) == "keys"


def test_keys_that_are_not_the_parties_are_refused_on_both_sides() -> None:
    assert refusal(SEALED, sender=MALLORY.public) == "context"
    with pytest.raises(EnvelopeError):
        seal(PAYLOAD, MALLORY, HUB.public, CONTEXT)
    with pytest.raises(EnvelopeError):
        seal(PAYLOAD, BANK, MALLORY.public, CONTEXT)


def test_no_part_of_one_envelope_serves_in_another() -> None:
    other = seal(PAYLOAD, BANK, HUB.public, replace(CONTEXT, round=4))
    (header, signature, ciphertext), (header2, signature2, ciphertext2) = parts(SEALED), parts(other)
    assert refusal(assemble(header, signature, ciphertext2)) == "signature"
    assert refusal(assemble(header, signature2, ciphertext)) == "signature"
    assert refusal(assemble(header, signature2, ciphertext2)) == "signature"
    assert refusal(assemble(header2, signature, ciphertext)) == "context"


def test_a_stripped_signature_cannot_be_replaced_by_ones_own() -> None:
    """Mallory signs the bank's ciphertext, naming herself: the signature is good, and yet it does not open."""
    header, _, ciphertext = parts(SEALED)
    mine = replace(CONTEXT, sender="mallory")
    stolen = json.loads(header) | {"sender": "mallory", "sender_keys": MALLORY.public.fingerprint}
    stolen_header = json.dumps(stolen, sort_keys=True, separators=(",", ":")).encode()
    signature = MALLORY.signing_key.sign(signed_bytes(stolen_header, ciphertext))
    data = assemble(stolen_header, signature, ciphertext)
    assert refusal(data, sender=MALLORY.public, context=mine) == "ciphertext"


def test_a_signature_by_another_over_the_unchanged_header_is_refused() -> None:
    header, _, ciphertext = parts(SEALED)
    signature = MALLORY.signing_key.sign(signed_bytes(header, ciphertext))
    assert refusal(assemble(header, signature, ciphertext)) == "signature"


def signed_bytes(header: bytes, ciphertext: bytes) -> bytes:
    """The documented signed message, written out a second time."""
    digest = hashlib.sha256(ciphertext).digest()
    return b"fedfin envelope 1 signature\n" + len(header).to_bytes(4, "big") + header + digest


def test_the_twin_of_the_signed_message_is_the_real_one() -> None:
    header, signature, ciphertext = parts(SEALED)
    BANK.public.signing_key.verify(signature, signed_bytes(header, ciphertext))


@pytest.mark.parametrize("length", [0, 1, 31, 1119, 1120, 1135])
def test_a_signed_ciphertext_that_is_none_is_refused(length: int) -> None:
    header, _, ciphertext = parts(SEALED)
    for short in (ciphertext[:length], bytes(length)):
        signature = BANK.signing_key.sign(signed_bytes(header, short))
        assert refusal(assemble(header, signature, short)) == "ciphertext"


def test_a_recipient_key_of_small_order_is_refused() -> None:
    weak = PublicKeys("hub", HUB.public.signing, HUB.public.sealing[:1184] + bytes(32))
    with pytest.raises(EnvelopeError) as caught:
        seal(PAYLOAD, BANK, weak, CONTEXT)
    assert caught.value.code == "keys"


@settings(max_examples=400)
@given(st.integers(0, len(SEALED) * 8 - 1))
def test_every_flipped_bit_is_refused(bit: int) -> None:
    data = bytearray(SEALED)
    data[bit // 8] ^= 1 << bit % 8
    assert refusal(bytes(data)) in {"malformed", "context", "keys", "signature"}


@given(st.integers(0, len(SEALED) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    assert refusal(SEALED[:length]) in {"malformed", "signature"}


def test_bytes_after_the_end_are_refused() -> None:
    assert refusal(SEALED + b"\0") == "signature"


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused_by_opening_and_by_peeking(data: bytes, begin: bool) -> None:
    data = MAGIC + data if begin else data
    assert refusal(data) == "malformed"
    with pytest.raises(EnvelopeError) as caught:
        peek(data)
    assert caught.value.code == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.sampled_from(sorted(json.loads(parts(SEALED)[0]))), JSON, st.booleans())
def test_a_header_of_other_types_is_refused_by_opening_and_gives_peek_a_context_or_an_error(key, value, drop) -> None:
    fields = json.loads(parts(SEALED)[0])
    original = fields.pop(key)
    if not drop:
        fields[key] = value
    header = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    data = assemble(header, *parts(SEALED)[1:])
    if not drop and type(value) is type(original) and value == original:
        return
    assert refusal(data) in {"malformed", "context", "keys"}
    with contextlib.suppress(EnvelopeError):
        assert isinstance(peek(data), MessageContext)


def test_a_header_nested_too_deeply_is_malformed() -> None:
    assert refusal(assemble(b"[" * 4000, b"", b"")) == "malformed"


def test_a_header_of_declared_length_beyond_the_bound_is_malformed() -> None:
    assert refusal(MAGIC + b"\xff\xff\xff\xff" + bytes(100)) == "malformed"


def test_more_bytes_than_allowed_are_refused() -> None:
    assert refusal(SEALED, max_bytes=len(SEALED) - 1) == "too_large"
    assert open_sealed(SEALED, HUB, BANK.public, CONTEXT, max_bytes=len(SEALED)) == PAYLOAD


def test_peek_tells_the_context() -> None:
    assert peek(SEALED) == CONTEXT


@pytest.mark.parametrize(
    "change",
    [{"run_id": "a/b"}, {"run_id": ""}, {"kind": "x\n"}, {"sender": ".."}, {"recipient": 1}]
    + [{"round": value} for value in (-1, 2**31, True, 1.0, "1")],
)
def test_a_context_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError) as caught:
        replace(CONTEXT, **change)
    assert caught.value.code == "context"


def test_sealing_and_opening_a_small_adapter_costs_milliseconds() -> None:
    """Measured 0.3 ms for both at 200 kB. The bound leaves room for a busy machine."""
    payload = bytes(200_000)
    costs = []
    for _ in range(10):
        start = time.perf_counter()
        open_sealed(seal(payload, BANK, HUB.public, CONTEXT), HUB, BANK.public, CONTEXT)
        costs.append(time.perf_counter() - start)
    assert min(costs) < 0.01

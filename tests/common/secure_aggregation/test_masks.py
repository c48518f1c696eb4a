"""Masks are the keystream of their key, and adding and subtracting one leaves nothing."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from common.secure_aggregation.masks import MaskAdder, derive


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_a_mask_is_the_encryption_of_a_counter(dtype: type[np.unsignedinteger]) -> None:
    key, size = bytes(range(32)), 37
    adder = MaskAdder(np.zeros(size, dtype=dtype))
    adder.add(key)
    blocks = b"".join(number.to_bytes(16, "big") for number in range(20))
    expected = Cipher(AES(key), ECB()).encryptor().update(blocks)  # noqa: S305 - counter mode by its definition
    assert adder.total.tobytes() == expected[: adder.total.nbytes]


def test_a_mask_that_one_adds_and_another_subtracts_is_gone() -> None:
    start = np.arange(11, dtype=np.uint32) * 400_000_000
    adder = MaskAdder(start.copy())
    for key in (b"a" * 32, b"b" * 32):
        adder.add(key)
    assert (adder.total != start).all()
    for key in (b"a" * 32, b"b" * 32):
        adder.subtract(key)
    assert (adder.total == start).all()


def test_each_purpose_and_place_has_a_key_of_its_own() -> None:
    keys = {derive(bytes(16), purpose, context) for purpose in ("own", "pair", "pad") for context in (b"1", b"2")}
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)

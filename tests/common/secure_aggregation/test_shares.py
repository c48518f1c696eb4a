"""Any shares of the threshold give the secret, fewer do not, and a digest tells a wrong one."""

import os
import random
from itertools import combinations

import pytest
from Crypto.Protocol.SecretSharing import Shamir

from common.errors import SecureAggregationRefused
from common.secure_aggregation.shares import combine, digest, split

SECRET = bytes(range(16))


def test_any_three_of_five_shares_give_the_secret() -> None:
    shares = dict(enumerate(split(SECRET, 3, 5), start=1))
    for chosen in combinations(shares, 3):
        assert combine({number: shares[number] for number in chosen}, 3) == SECRET
    assert combine(shares, 3) == SECRET


def test_any_shares_give_the_librarys_secret() -> None:
    """Shares of any numbers and any content, also such as no dealer made, and the values at the ends of the field."""
    draw = random.Random(5)
    for threshold in (2, 3, 7, 34):
        for _ in range(3):
            numbers = sorted(draw.sample(range(1, 1001), threshold))
            shares = {number: os.urandom(16) for number in numbers}
            shares[numbers[0]], shares[numbers[1]] = bytes(16), b"\xff" * 16
            assert combine(shares, threshold) == Shamir.combine(list(shares.items()), ssss=False)


def test_two_shares_give_another_value_and_a_wrong_share_too() -> None:
    """The library notices neither, so that digests must."""
    shares = dict(enumerate(split(SECRET, 3, 5), start=1))
    assert combine({1: shares[1], 2: shares[2]}, 2) != SECRET
    assert combine({**shares, 1: bytes(16)}, 3) != SECRET
    assert digest(shares[1]) not in (digest(shares[2]), digest(SECRET))
    assert shares != dict(enumerate(split(SECRET, 3, 5), start=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {0: SECRET, 1: SECRET, 2: SECRET},
        {-1: SECRET, 2: SECRET, 3: SECRET},
        {2**128: SECRET, 2: SECRET, 3: SECRET},
        {1: SECRET, 2: SECRET},
        {},
        {1: SECRET + b"x", 2: SECRET, 3: SECRET},
        {1: b"", 2: SECRET, 3: SECRET},
    ],
)
def test_shares_of_other_numbers_lengths_or_counts_are_refused(wrong: dict[int, bytes]) -> None:
    with pytest.raises(SecureAggregationRefused):
        combine(wrong, 3)

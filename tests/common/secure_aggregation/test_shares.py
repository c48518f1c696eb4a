"""Any shares of the threshold give the secret, fewer do not, and a digest tells a wrong one."""

from itertools import combinations

from common.secure_aggregation.shares import combine, digest, split

SECRET = bytes(range(16))


def test_any_three_of_five_shares_give_the_secret() -> None:
    shares = dict(enumerate(split(SECRET, 3, 5), start=1))
    for chosen in combinations(shares, 3):
        assert combine({number: shares[number] for number in chosen}, 3) == SECRET
    assert combine(shares, 3) == SECRET


def test_two_shares_give_another_value_and_a_wrong_share_too() -> None:
    """The library notices neither, so that digests must."""
    shares = dict(enumerate(split(SECRET, 3, 5), start=1))
    assert combine({1: shares[1], 2: shares[2]}, 2) != SECRET
    assert combine({**shares, 1: bytes(16)}, 3) != SECRET
    assert digest(shares[1]) not in (digest(shares[2]), digest(SECRET))
    assert shares != dict(enumerate(split(SECRET, 3, 5), start=1))

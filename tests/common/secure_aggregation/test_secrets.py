"""One secret of a round gives all of its keys, and the pad of a key shows nothing without it."""

from common.secure_aggregation.secrets import KEY_BYTES, RoundDigests, RoundSecrets, own_key, pad, pair_key
from common.secure_aggregation.shares import combine, digest
from tests.common.secure_aggregation.federation import terms_of

NAMES = ("bank00", "bank01", "bank02", "bank03")
TERMS = terms_of(NAMES, 3, 2)


def test_the_key_of_a_pair_follows_from_the_secret_of_either() -> None:
    chooser, other = RoundSecrets.draw(TERMS), RoundSecrets.draw(TERMS)
    key = pair_key(chooser.pair_seed, TERMS, 1, "bank00", "bank01")
    hidden = pad(other.pair_seed, TERMS, 1, "bank00", "bank01", key)
    assert hidden != key
    assert pad(other.pair_seed, TERMS, 1, "bank00", "bank01", hidden) == key
    assert pad(chooser.pair_seed, TERMS, 1, "bank00", "bank01", hidden) != key


def test_no_two_places_share_a_key() -> None:
    seed = RoundSecrets.draw(TERMS).pair_seed
    keys = {pair_key(seed, TERMS, round_, "bank00", name) for round_ in (1, 2) for name in NAMES[1:]}
    keys |= {own_key(seed, TERMS, round_, "bank00") for round_ in (1, 2)}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_digests_are_those_of_the_shares_and_keys() -> None:
    secrets = RoundSecrets.draw(TERMS)
    found = RoundDigests.of(secrets, TERMS, 1, "bank01")
    data = found.to_bytes(2)
    assert len(data) == RoundDigests.size(4, 2)
    assert RoundDigests.from_bytes(data, 4, 2) == found
    assert all(RoundDigests.of(secrets, TERMS, 1, name).to_bytes(n) for n, name in enumerate(NAMES, start=1))
    assert found.pair_shares[2] == digest(secrets.pair_shares[2])
    assert found.pair_keys[0] == found.pair_keys[1] == bytes(16)
    assert found.pair_keys[2] == digest(pair_key(secrets.pair_seed, TERMS, 1, "bank01", "bank02"))
    assert combine(dict(enumerate(secrets.pair_shares, start=1)), 3) == secrets.pair_seed

"""An institution keeps its own rules, whatever a hub that lies asks of it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import SecureAggregationRefused
from common.secure_aggregation.aggregator import Aggregator
from common.secure_aggregation.masks import MaskAdder
from common.secure_aggregation.participant import Participant
from tests.common.secure_aggregation.federation import RANGE, Federation, keys_of, terms_of, values_of

NAMES = ("bank00", "bank01", "bank02", "bank03")


def test_a_hub_cannot_add_a_participant_of_its_own() -> None:
    approved = {name: keys_of(name).public for name in NAMES}
    terms = terms_of((*NAMES, "shell"), 4, 3)
    with pytest.raises(SecureAggregationRefused, match="shell, with these keys, is not among the institutions"):
        Participant(keys_of("bank00"), terms, approved, None)
    # Nor exchange the keys of one that was approved.
    terms = terms_of(NAMES, 3, 2)
    with pytest.raises(SecureAggregationRefused, match="bank01, with these keys"):
        Participant(keys_of("bank00"), terms, {**approved, "bank01": replace(keys_of("x").public, name="bank01")}, None)


def test_keys_that_an_institution_did_not_sign_are_refused() -> None:
    """A hub that gives out keys of its own for an institution could open the packets for it."""
    terms = terms_of(NAMES, 3, 2)
    parties = {name: Participant(keys_of(name), terms, terms.keys, None) for name in NAMES}
    said = {name: party.announce() for name, party in parties.items()}
    own = replace(said["bank01"], sealing=keys_of("hub").public.sealing)
    data = {name: each.to_bytes() for name, each in {**said, "bank01": own}.items()}
    with pytest.raises(SecureAggregationRefused, match="bank01 did not announce these keys"):
        parties["bank00"].deal(32, data)
    # The size that it declares is signed too, and an earlier session's announcement is another one.
    data["bank01"] = replace(said["bank01"], declared_units=1024).to_bytes()
    with pytest.raises(SecureAggregationRefused, match="bank01 did not announce these keys"):
        parties["bank00"].deal(32, data)
    data["bank01"] = said["bank01"].to_bytes()
    data["bank00"] = Participant(keys_of("bank00"), terms, terms.keys, None).announce().to_bytes()
    with pytest.raises(SecureAggregationRefused, match="own announcement is absent or another"):
        parties["bank00"].deal(32, data)


def test_fewer_parties_than_the_threshold_get_no_shares_and_no_sum() -> None:
    terms = terms_of(NAMES, 3, 2)
    party = Participant(keys_of("bank00"), terms, terms.keys, None)
    with pytest.raises(SecureAggregationRefused, match="1 institutions announced their keys, and the threshold is 3"):
        party.deal(32, {"bank00": party.announce().to_bytes()})
    federation = Federation(4, 3, 2)
    with pytest.raises(SecureAggregationRefused, match="the session has 2 members, and the threshold is 3"):
        federation.parties["bank00"].check_round(1, ("bank00", "bank01"))


def test_packets_of_another_session_or_for_another_party_do_not_open() -> None:
    one, two = Federation(4, 3, 2), Federation(4, 3, 2)
    fresh = Participant(keys_of("bank00"), one.terms, one.terms.keys, None)
    hub = Aggregator(one.terms)
    for name in NAMES:
        party = fresh if name == "bank00" else one.parties[name]
        hub.announce(name, party.announce())
    fresh.deal(32, hub.announcements)
    other = {name: two.hub._dealt[name]["bank00"] for name in NAMES[1:]}
    with pytest.raises(SecureAggregationRefused, match="1 institutions dealt shares, and the threshold is 3"):
        fresh.receive(other)


def test_a_dealer_whose_packet_does_not_open_is_named_and_no_round_is_masked_with_it() -> None:
    federation = Federation(4, 3, 2, absent=((), (), NAMES))
    party = federation.parties["bank02"]
    packets = federation.hub.packets_for("bank02")
    answer = party.receive(packets | {"bank00": packets["bank00"][:-1] + b"?"})
    assert answer.unopened == ("bank00",)
    assert set(answer.pads) == {"bank01"}
    with pytest.raises(SecureAggregationRefused, match="a member of this session dealt no shares"):
        party.check_round(1, NAMES)
    party.check_round(1, NAMES[1:])


def test_no_round_is_masked_twice() -> None:
    federation = Federation(4, 3, 2)
    party, values = federation.parties["bank00"], values_of(NAMES, 1)["bank00"]
    party.mask(2, federation.members, values, RANGE)
    for round_ in (2, 1):
        with pytest.raises(SecureAggregationRefused, match="or a later one was masked already"):
            party.mask(round_, federation.members, values, RANGE)
    with pytest.raises(SecureAggregationRefused, match="not among those for which shares were dealt"):
        party.mask(3, federation.members, values, RANGE)


def test_no_mask_is_made_from_a_key_of_another_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bytes] = []

    def noted(self: MaskAdder, key: bytes) -> NDArray[np.unsignedinteger]:
        used.append(key)
        return mask(self, key)

    mask = MaskAdder._mask
    monkeypatch.setattr(MaskAdder, "_mask", noted)
    federation = Federation(5, 3, 3, rounds=3)
    for round_ in (1, 2, 3):
        federation.masked(round_, values_of(federation.names, round_))
    # Each pair's key is used by its two members, and each own key by one.
    assert len(used) == 3 * (5 * 4 + 5)
    assert len(set(used)) == 3 * (10 + 5)


def test_the_members_of_a_session_never_change() -> None:
    federation = Federation(4, 3, 2)
    party, values = federation.parties["bank00"], values_of(NAMES, 1)["bank00"]
    party.mask(1, federation.members, values, RANGE)
    with pytest.raises(SecureAggregationRefused, match="the members of this session have changed"):
        party.mask(2, federation.members[:3], values, RANGE)


def test_two_sets_of_survivors_are_never_both_signed() -> None:
    federation = Federation(4, 3, 2)
    federation.masked(1, values_of(NAMES, 1))
    party = federation.parties["bank00"]
    assert party.confirm(1, NAMES) == party.confirm(1, NAMES)
    with pytest.raises(SecureAggregationRefused, match="another set of survivors of this round was signed"):
        party.confirm(1, NAMES[:3])


@pytest.mark.parametrize("survivors", [NAMES[1:], NAMES[:2], ("bank00", "bank01", "shell")])
def test_a_set_without_itself_below_the_threshold_or_with_strangers_is_not_signed(survivors: tuple[str, ...]) -> None:
    federation = Federation(4, 3, 2)
    federation.masked(1, values_of(NAMES, 1))
    with pytest.raises(SecureAggregationRefused, match="surviv"):
        federation.parties["bank00"].confirm(1, survivors)


def test_nothing_is_released_before_enough_institutions_signed_the_same_set() -> None:
    """A hub that tells institutions different sets gets too few signatures for each."""
    federation = Federation(4, 3, 2)
    federation.masked(1, values_of(NAMES, 1))
    parties = federation.parties
    signed = {name: parties[name].confirm(1, NAMES).signature for name in NAMES[:2]}
    signed["bank02"] = parties["bank02"].confirm(1, NAMES[:3]).signature
    signed["bank03"] = signed["bank00"]  # forged
    with pytest.raises(SecureAggregationRefused, match="2 institutions signed the survivors, and the threshold is 3"):
        parties["bank00"].unmask(1, signed)
    with pytest.raises(SecureAggregationRefused, match="no set of survivors"):
        parties["bank03"].unmask(1, signed)
    assert all(1 in party._held for party in parties.values())


def test_of_each_other_institution_one_share_of_one_secret_is_released() -> None:
    """Both secrets of an institution together would show its own integers."""
    federation = Federation(5, 4, 3)
    names = federation.names
    total = federation.masked(1, values_of(names, 1), absent=["bank04"])
    federation.confirm(total, 1)
    for name in total.survivors:
        party = federation.parties[name]
        held = dict(party._held[1])
        released = party.unmask(1, total.signatures)
        assert set(released.shares) == set(names) - {name}
        for other, share in released.shares.items():
            assert share == held[other][1 if other == "bank04" else 0]
        # The other share is gone, and the same question has the same answer.
        assert 1 not in party._held
        assert party.unmask(1, total.signatures) is released
    with pytest.raises(SecureAggregationRefused, match="not the one that was masked last"):
        federation.parties["bank04"].unmask(1, total.signatures)


def test_signatures_of_an_earlier_session_with_equal_terms_do_not_count() -> None:
    """Rounds that are done again after a crash have the same terms and other masks."""
    one, two = Federation(4, 3, 2), Federation(4, 3, 2)
    assert one.terms == two.terms
    values = values_of(NAMES, 1)
    earlier, now = one.masked(1, values), two.masked(1, values)
    one.confirm(earlier, 1)
    two.parties["bank00"].confirm(1, now.survivors)
    with pytest.raises(SecureAggregationRefused, match="0 institutions signed the survivors"):
        two.parties["bank00"].unmask(1, earlier.signatures)


def test_shares_are_dealt_and_packets_are_opened_once() -> None:
    federation = Federation(4, 3, 2)
    party = federation.parties["bank00"]
    with pytest.raises(SecureAggregationRefused, match="dealt already"):
        party.deal(32, federation.hub.announcements)
    with pytest.raises(SecureAggregationRefused, match="packets come once"):
        party.receive(federation.hub.packets_for("bank00"))

"""The sum is exact or the round fails, whoever is absent, and a wrong answer of an institution changes nothing."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import SecureAggregationRefused
from common.secure_aggregation.aggregator import Aggregator
from common.secure_aggregation.shares import digest
from tests.common.secure_aggregation.federation import RANGE, Federation, slow_sum, values_of


@st.composite
def patterns(draw: st.DrawFn) -> tuple[int, int, int, random.Random]:
    """Number of institutions, threshold, absences, and a source of further choices."""
    number = draw(st.integers(3, 12))
    threshold = draw(st.integers(number // 2 + 1, number))
    return number, threshold, draw(st.integers(0, number)), random.Random(draw(st.integers(0, 2**32)))


def check_pattern(number: int, threshold: int, absences: int, draw: random.Random) -> bool:
    """Run two rounds with random absences. Return whether both gave a sum."""
    names = [f"bank{place:02d}" for place in range(number)]
    honest = max(2, number - threshold + 1)

    def some() -> tuple[set[str], set[str], set[str]]:
        found: tuple[set[str], set[str], set[str]] = (set(), set(), set())
        for name in draw.sample(names, min(absences, number)):
            found[draw.randrange(3)].add(name)
        return found

    values = {round_: values_of(names, draw.randrange(2**32)) for round_ in (1, 2)}
    before = some() if draw.random() < 0.2 else (set(), set(), set())
    summed = 0
    try:
        federation = Federation(number, max(threshold, honest), honest, absent=before)
        for round_ in (1, 2):
            total, found = federation.round(round_, values[round_], some())
            assert found.tolist() == slow_sum(values[round_], total.survivors)
            assert len(total.survivors) >= federation.terms.threshold
            summed += 1
    except SecureAggregationRefused:
        pass
    return summed == 2


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(patterns())
def test_whoever_is_absent_the_sum_is_exact_or_the_round_fails(case: tuple[int, int, int, random.Random]) -> None:
    number, threshold, absences, draw = case
    check_pattern(number, threshold, absences, draw)


def test_fifty_institutions_of_which_some_are_absent_at_each_exchange() -> None:
    federation = Federation(50, 34, 17, rounds=1)
    values, gone = values_of(federation.names, 50), federation.names
    total, found = federation.round(1, values, (gone[3:8], gone[10:11], gone[20:23]))
    assert len(total.survivors) == 45
    assert found.tolist() == slow_sum(values, total.survivors)


def test_absences_up_to_the_threshold_give_the_sum_and_one_more_fails() -> None:
    federation = Federation(6, 4, 3)
    values = values_of(federation.names, 1)
    _, found = federation.round(1, values, (federation.names[:2], (), ()))
    assert found.tolist() == slow_sum(values, federation.names[2:])
    with pytest.raises(SecureAggregationRefused, match="3 institutions survived, and the threshold is 4"):
        federation.round(2, values, (federation.names[:3], (), ()))


def test_two_that_leave_between_set_and_unmasking_are_made_up_for_by_shares() -> None:
    federation = Federation(6, 4, 3)
    values = values_of(federation.names, 2)
    _, found = federation.round(1, values, ((), (), federation.names[:2]))
    assert found.tolist() == slow_sum(values, federation.names)
    with pytest.raises(SecureAggregationRefused, match="right shares of bank00 came"):
        federation.round(2, values, ((), (), federation.names[:3]))


def test_wrong_shares_and_a_wrong_own_mask_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    federation = Federation(5, 3, 3)
    values = values_of(federation.names, 3)
    total = federation.masked(1, values, absent=["bank04"])
    federation.confirm(total, 1)
    federation.unmask(total, 1, absent=["bank00"])
    right = federation.parties["bank00"].unmask(1, total.signatures)
    total.unmask("bank00", replace(right, seed=bytes(16), shares={name: bytes(16) for name in right.shares}))
    assert total.total().tolist() == slow_sum(values, federation.names[:4])
    assert "the own mask of bank00 is wrong" in caplog.text
    assert "the share of bank04 that bank00 sent is wrong" in caplog.text


def test_a_share_of_another_length_does_not_stop_the_hub_though_its_dealer_promised_it() -> None:
    federation = Federation(5, 3, 3)
    values = values_of(federation.names, 3)
    dealt = federation.hub._digests["bank04"]
    promised = list(dealt[1].pair_shares)
    promised[0] = digest(b"short")
    dealt[1] = replace(dealt[1], pair_shares=tuple(promised))
    total = federation.masked(1, values, absent=["bank04"])
    federation.confirm(total, 1)
    federation.unmask(total, 1, absent=["bank00"])
    right = federation.parties["bank00"].unmask(1, total.signatures)
    total.unmask("bank00", replace(right, shares={**right.shares, "bank04": b"short"}))
    assert total.total().tolist() == slow_sum(values, federation.names[:4])


def test_pads_that_hide_another_key_make_the_round_fail() -> None:
    federation = Federation(4, 3, 2)
    other = Federation(4, 3, 2)
    federation.hub._pads["bank03"] = other.hub._pads["bank03"]
    with pytest.raises(SecureAggregationRefused, match="bank03 encrypted another key than bank00 chose"):
        federation.round(1, values_of(federation.names, 4), (["bank03"], (), ()))


def test_what_is_not_of_this_session_is_refused() -> None:
    one, two = Federation(4, 3, 2), Federation(4, 3, 2)
    values = values_of(one.names, 5)
    with pytest.raises(SecureAggregationRefused, match="did not announce these keys"):
        Aggregator(one.terms).announce("bank01", one.parties["bank00"].announce())
    total, other = one.masked(1, values), two.masked(1, values)
    with pytest.raises(SecureAggregationRefused, match="bank00 did not sign the survivors"):
        total.confirm("bank00", two.parties["bank00"].confirm(1, other.survivors))
    with pytest.raises(SecureAggregationRefused, match="sent its integers twice"):
        total.add("bank00", bytes(4 * 7))
    with pytest.raises(SecureAggregationRefused, match="another number of integers"):
        one.hub.begin(2, RANGE, 9).add("bank00", bytes(4 * 7))


def test_a_masked_vector_says_nothing_of_its_values() -> None:
    """Zeros and large numbers both look uniform: each of the 256 values of a byte is about as frequent as any other."""
    federation = Federation(3, 3, 2)
    for round_, value in ((1, 0), (2, 2**20)):
        sent = federation.parties["bank00"].mask(round_, federation.members, np.full(2**16, value), RANGE)
        counts = np.bincount(np.frombuffer(sent, dtype=np.uint8), minlength=256)
        assert abs(counts / counts.mean() - 1).max() < 0.2


COMPLAINTS: tuple[tuple[dict[str, tuple[str, ...]], tuple[str, ...]], ...] = (
    ({"bank02": ("bank01",)}, ("bank00", "bank01", "bank03", "bank04")),
    ({"bank02": ("bank00", "bank01", "bank03", "bank04")}, ("bank00", "bank01", "bank03", "bank04")),
    (dict.fromkeys(("bank00", "bank02", "bank03"), ("bank01",)), ("bank00", "bank02", "bank03", "bank04")),
    (dict.fromkeys(("bank00", "bank02"), ("bank01",)), ("bank01", "bank03", "bank04")),
)
"""Dealers whose packets are said not to open, by the one that says so, and the members: two may work with the hub."""


@pytest.mark.parametrize(("unopened", "members"), COMPLAINTS)
def test_a_dealer_is_left_out_if_more_name_it_than_may_lie_and_else_those_that_name_it(
    unopened: dict[str, tuple[str, ...]], members: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    names = tuple(f"bank{place:02d}" for place in range(5))
    federation = Federation(5, 4, 2, absent=((), (), names))
    for name in names:
        packets = federation.hub.packets_for(name)
        spoiled = {dealer: packets[dealer][:-1] for dealer in unopened.get(name, ())}
        if len(spoiled) == 4:  # it lies, since it could not take part itself
            answer = federation.parties[name].receive(packets)
            federation.hub.pads(name, replace(answer, pads={}, unopened=tuple(sorted(spoiled))))
        else:
            federation.hub.pads(name, federation.parties[name].receive(packets | spoiled))
    assert federation.hub.members == members
    assert "says that the packet of bank01 does not open" in caplog.text
    if len(members) == 4:
        federation.members = members
        values = values_of(members, 3)
        assert federation.round(1, values)[1].tolist() == slow_sum(values, members)


def test_nobody_names_a_packet_that_it_did_not_get() -> None:
    federation = Federation(4, 3, 2, absent=((), (), ("bank03",)))
    answer = federation.parties["bank03"].receive(federation.hub.packets_for("bank03"))
    for wrong in ("bank03", "ghost"):
        with pytest.raises(SecureAggregationRefused, match="names packets that it did not get"):
            federation.hub.pads("bank03", replace(answer, unopened=(wrong,)))

"""The institutions that a round asks, and the message that each one gets."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from common.errors import QuorumError
from common.protocol.messages import Assignment
from server.rounds.assignments import sample_institutions

BANKS = ("bank-a", "bank-b", "bank-c")


def test_a_sample_of_institutions_is_drawn_from_the_public_seed(federate: Any) -> None:
    settings = {"institutions_per_round": 2}
    final = federate(banks=6, rounds=6, aggregation=settings).run()
    asked = [record.asked for record in final.history]
    assert all(len(names) == 2 and names == tuple(sorted(names)) for names in asked)
    assert len(set(asked)) > 1
    assert [record.asked for record in federate(banks=6, rounds=6, aggregation=settings).run().history] == asked
    other = federate(banks=6, rounds=6, aggregation=settings)
    other.config = replace(other.config, seed=12)
    assert [record.asked for record in other.run().history] != asked


def test_every_pair_is_drawn_equally_often(federate: Any) -> None:
    federation = federate(banks=5, aggregation={"institutions_per_round": 2})
    hub, draws = federation.hub, 4000
    counts = Counter(sample_institutions(replace(federation.start(), next_round=k), hub) for k in range(draws))
    pairs = list(itertools.combinations(sorted(hub.institutions), 2))
    expected = draws / len(pairs)
    chi_squared = sum((counts[pair] - expected) ** 2 / expected for pair in pairs)
    # 27.9 is the 99.9 % point for 9 degrees of freedom. The draw is fixed, so this never flickers.
    assert chi_squared < 27.9


def test_another_attempt_at_a_round_asks_another_sample(federate: Any) -> None:
    federation = federate(banks=6, aggregation={"institutions_per_round": 2, "quorum": 2})
    first = sample_institutions(federation.start(), federation.hub)
    federation.meddle[first[0]] = lambda institution, round_, reply: None
    with pytest.raises(QuorumError):
        federation.run()
    for _ in range(20):
        try:
            federation.run(federation.states[-1])
            break
        except QuorumError:
            continue
    assert federation.states[-1].history, "no sample without the absent institution was ever drawn"


def test_everybody_is_asked_where_no_number_is_given(federate: Any) -> None:
    assert {record.asked for record in federate().run().history} == {BANKS}


def test_an_assignment_is_the_same_for_everybody_and_says_what_is_run(federate: Any) -> None:
    federation = federate(rounds=1)
    federation.run()
    payloads = {payload for institution in federation.institutions.values() for _, payload in institution.questions}
    assert len(payloads) == 1
    assignment = Assignment.from_bytes(payloads.pop())
    assert assignment.config_json == federation.config.to_json()
    assert assignment.spec_json == federation.hub.spec.to_json()
    assert (assignment.run_id, assignment.round) == ("run-1", 1)


def test_each_institution_is_told_its_own_share_and_no_other(federate: Any) -> None:
    federation = federate(rounds=2, aggregation={"weighting": "declared_units"})
    for name, band in {"bank-a": 1024, "bank-b": 512, "bank-c": 512}.items():
        federation.institutions[name].band = band
    federation.run()
    told: dict[tuple[str, int], tuple[float, int]] = {}
    for name, institution in federation.institutions.items():
        for payload in institution.outbox:
            question = Assignment.from_bytes(payload)
            told[name, question.round] = (question.share, question.members)
    assert {told[name, 1] for name in BANKS} == {(0.0, 0)}
    assert [told[name, 2] for name in BANKS] == [(0.5, 3), (0.25, 3), (0.25, 3)]

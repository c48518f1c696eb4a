"""The final adapter of a run with a personal part reaches every institution once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.protocol.messages import Assignment
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState

PERSONAL = {"personalisation": {"method": "proximal", "proximal_weight": 1.0}}


BANKS = ("bank-a", "bank-b", "bank-c")


def final_questions(federation: Any) -> dict[str, list[Assignment]]:
    """The questions of the round after the last one."""
    rounds = federation.config.rounds
    return {
        name: [Assignment.from_bytes(payload) for round_, payload in institution.questions if round_ > rounds]
        for name, institution in federation.institutions.items()
    }


def test_the_final_adapter_is_sent_once_to_all_and_nothing_of_the_answer_is_kept_but_its_outcome(federate: Any) -> None:
    federation = federate(rounds=2, **PERSONAL)
    final = federation.run()
    asked = final_questions(federation)
    assert {name: len(questions) for name, questions in asked.items()} == dict.fromkeys(BANKS, 1)
    assert {question.adapter for questions in asked.values() for question in questions} == {final.encoded}
    assert (final.delivered, len(final.history)) == (True, 2)
    kind, body = federation.log[-1]
    assert (kind, body["outcomes"]) == ("final_adapter_delivered", dict.fromkeys(BANKS, "received"))
    assert federation.run(final).delivered
    assert {name: len(questions) for name, questions in final_questions(federation).items()} == dict.fromkeys(BANKS, 1)


def test_without_a_personal_part_no_round_follows_the_last(federate: Any) -> None:
    federation = federate(rounds=2)
    assert not federation.run().delivered
    assert not any(final_questions(federation).values())


def test_an_absent_institution_and_a_wrong_answer_end_the_delivery_with_their_outcomes(federate: Any) -> None:
    federation = federate(rounds=1, **PERSONAL)
    honest = federation.institutions["bank-b"]

    def contributes(institution: Any, round_: int, reply: bytes) -> bytes:
        if round_ == 1:
            return reply
        question = Assignment.from_bytes(honest.questions[0][1])
        return bytes(institution.reseal(replace(institution.contribution(question), round=round_)))

    federation.meddle = {
        "bank-a": lambda _, round_, reply: reply if round_ == 1 else None,
        "bank-b": contributes,
    }
    final = federation.run()
    assert federation.log[-1][1]["outcomes"] == {
        "bank-a": "failed:silent",
        "bank-b": "refused:wrong_kind",
        "bank-c": "received",
    }
    assert final.delivered


def test_a_delivery_that_was_cut_is_repeated_with_the_same_bytes(federate: Any, tmp_path: Path) -> None:
    federation = federate(rounds=1, **PERSONAL)

    def save(state: RunState) -> None:
        if state.delivered:
            raise KeyboardInterrupt
        checkpoint.save(state, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        federation.run(save=save)
    resumed = federation.run(checkpoint.load(tmp_path))
    assert resumed.delivered
    for questions in final_questions(federation).values():
        assert len(questions) == 2
        assert questions[0] == questions[1]
    checkpoint.save(resumed, tmp_path)
    assert checkpoint.load(tmp_path).delivered

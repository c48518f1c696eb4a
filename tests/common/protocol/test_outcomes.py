"""The list of outcomes is closed: every code that can arise is in it, and every outcome has a meaning."""

from typing import get_args

import pytest

from common.errors import AdapterCode, EnvelopeCode
from common.flower.records import RelayError
from common.protocol.messages import RefusalCode
from common.protocol.outcomes import RoundOutcome, explain_outcome

LOCAL = {"permissions"}
"""Codes of EnvelopeError that only reading one's own key files gives."""


@pytest.mark.parametrize("outcome", RoundOutcome)
def test_every_outcome_has_a_meaning(outcome: RoundOutcome) -> None:
    assert outcome.meaning
    assert explain_outcome(str(outcome)) == outcome.meaning


def test_every_refusal_of_an_institution_is_an_outcome_and_the_other_way_round() -> None:
    declined = {outcome.removeprefix("declined:") for outcome in RoundOutcome if outcome.startswith("declined:")}
    assert declined == set(RefusalCode)


@pytest.mark.parametrize("code", sorted({*get_args(AdapterCode), *get_args(EnvelopeCode)} - LOCAL))
def test_every_code_of_an_adapter_or_envelope_is_an_outcome(code: str) -> None:
    assert RoundOutcome(f"refused:{code}").meaning


@pytest.mark.parametrize("code", RelayError)
def test_every_error_of_a_relay_is_an_outcome(code: RelayError) -> None:
    assert RoundOutcome(f"failed:{code}").meaning


def test_an_outcome_of_another_version_has_no_meaning_here() -> None:
    assert explain_outcome("refused:of_another_version") is None

"""One function holds every training to the institution's limits, and it charges nothing that it refuses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.institution.limits import ProposedTraining, charge_training, check_limits
from common.errors import AssignmentRefused, BudgetExceeded
from common.identity.keys import PrivateKeys
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import ChargeContext
from common.privacy.ledger import PrivacyLedger
from common.protocol.messages import RefusalCode
from tests.client.institution.example_config import institution_config

BANK = PrivateKeys.generate("bank")
EVENT = DpSgdEvent(1.5, 0.25, 10)
TRAINING = ProposedTraining(
    tasks=("sentiment_analysis",), base_model="minilm", private=True, delta=1e-6, noise_multiplier=1.5, num_units=300
)
LIMITS: dict[str, Any] = {"delta": 1e-5, "min_noise_multiplier": 1.0, "tasks": ("sentiment_analysis",)}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[PrivacyLedger]:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as opened:
        yield opened


def context(**changes: Any) -> ChargeContext:
    values: dict[str, Any] = {
        "run_id": "run", "round": 1, "requester": "hub", "task": "sentiment_analysis", "base_digest": "b" * 64,
        "data_fingerprint": "f" * 64, "num_units": 300, "delta": 1e-6, "clipping_norm": 1.0,
    }  # fmt: skip
    return ChargeContext(**values | changes)


FORBIDDEN = [
    ({"tasks": ("financial_ner",)}, {}, RefusalCode.TASK, "financial_ner is not among"),
    ({"tasks": ("sentiment_analysis", "financial_ner")}, {}, RefusalCode.TASK, "financial_ner is not among"),
    ({"base_model": "./other"}, {}, RefusalCode.BASE_MODEL, r"\./other is not among"),
    ({"private": False}, {}, RefusalCode.PRIVACY_LIMIT, "without differential privacy"),
    ({"private": False, "tasks": ("financial_ner",)}, {"allow_without_privacy": True}, RefusalCode.TASK, "financial"),
    ({"private": False, "base_model": "x"}, {"allow_without_privacy": True}, RefusalCode.BASE_MODEL, "x is not"),
    ({"unit": "customer"}, {}, RefusalCode.PRIVACY_LIMIT, "protects one customer"),
    ({"delta": 2e-5}, {}, RefusalCode.PRIVACY_LIMIT, "above limits.delta 1e-05"),
    ({"num_units": 100_000}, {}, RefusalCode.PRIVACY_LIMIT, "limits.delta is not below one over"),
    ({"delta": 1 / 2048}, {"delta": None}, RefusalCode.PRIVACY_LIMIT, "not below one over twice"),
    ({"num_units": 2049}, {"delta": None}, RefusalCode.PRIVACY_LIMIT, "set limits.delta"),
]


@pytest.mark.parametrize(("change", "limits", "code", "why"), FORBIDDEN)
def test_each_limit_refuses_a_training_in_one_line_and_charges_nothing(
    ledger: PrivacyLedger, change: dict[str, Any], limits: dict[str, Any], code: RefusalCode, why: str
) -> None:
    institution, training = institution_config("bank", **LIMITS | limits), replace(TRAINING, **change)
    with pytest.raises(AssignmentRefused, match=why) as refused:
        charge_training(ledger, institution, training, EVENT, context(delta=training.delta))
    assert refused.value.code == code
    assert "\n" not in str(refused.value)
    assert ledger.entries == ()


def test_noise_is_taken_from_the_event_that_is_charged(ledger: PrivacyLedger) -> None:
    institution = institution_config("bank", **LIMITS)
    with pytest.raises(AssignmentRefused, match="min_noise_multiplier 1"):
        charge_training(ledger, institution, TRAINING, replace(EVENT, noise_multiplier=0.9), context())
    assert ledger.entries == ()
    charge_training(ledger, institution, replace(TRAINING, noise_multiplier=None), EVENT, context())
    assert [charge.event for charge in ledger.charges] == [EVENT]


def test_the_budget_is_a_limit_too(ledger: PrivacyLedger) -> None:
    institution = institution_config("bank", **LIMITS, max_epsilon=0.1)
    with pytest.raises(BudgetExceeded, match=r"above the limit 0\.1") as refused:
        charge_training(ledger, institution, TRAINING, EVENT, context())
    assert refused.value.code == RefusalCode.BUDGET
    assert ledger.entries == ()


def test_a_run_whose_epsilon_would_be_infinite_is_not_charged(ledger: PrivacyLedger) -> None:
    institution = institution_config("bank")
    with pytest.raises(AssignmentRefused, match="would be infinite"):
        charge_training(ledger, institution, TRAINING, replace(EVENT, noise_multiplier=1e-4), context())
    assert ledger.entries == ()


def test_limits_that_need_no_row_hold_before_rows_and_noise_are_known() -> None:
    early = replace(TRAINING, num_units=None, noise_multiplier=None, delta=None)
    check_limits(institution_config("bank", **LIMITS), early)
    for change in ({"tasks": ("financial_ner",)}, {"base_model": "x"}, {"private": False}, {"unit": "customer"}):
        with pytest.raises(AssignmentRefused):
            check_limits(institution_config("bank", **LIMITS), replace(early, **change))


@pytest.mark.parametrize("limits", [{"delta": 1e-3}, {"declared_units": 512}, {}])
def test_no_series_of_deltas_tells_how_many_rows_there_are(limits: dict[str, Any]) -> None:
    institution = institution_config("bank", **limits)

    def allowed(delta: float, num_units: int) -> bool:
        try:
            check_limits(institution, replace(TRAINING, delta=delta, num_units=num_units))
        except AssignmentRefused:
            return False
        return True

    for delta in (0.5, 1e-2, 1 / 999, 1e-3, 1 / 1025, 1 / 2049, 1e-6):
        assert len({allowed(delta, num_units) for num_units in (1, 30, 500, 999)}) == 1

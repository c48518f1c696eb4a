"""No field reaches the hub without a privacy decision, and none carries a count or a measurement."""

from dataclasses import fields
from pathlib import Path

import pytest

from common.flower.records import RelayError, to_record
from common.identity.enrolment import EnrolmentRequest
from common.protocol.disclosures import DISCLOSURES, Basis
from common.protocol.messages import Contribution, PrivacyStatement, Receipt, Refusal, RefusalCode
from common.secure_aggregation.messages import ANSWERS

ROOT = Path(__file__).parents[3]
SENT = (Contribution, PrivacyStatement, Receipt, Refusal, EnrolmentRequest, *ANSWERS)


def test_every_field_that_the_hub_receives_was_decided_and_nothing_else_was() -> None:
    """A new field is a new disclosure: decide it in `DISCLOSURES` and in docs/privacy.md, or leave it."""
    sent = {f"{kind.__name__}.{field.name}" for kind in SENT for field in fields(kind)}
    assert set(DISCLOSURES) == sent | {"RelayError"}


def test_only_the_adapter_is_computed_from_rows() -> None:
    noised = [name for name, (basis, _) in DISCLOSURES.items() if basis is Basis.NOISED]
    assert noised == ["Contribution.adapter", "MaskedSum.values"]
    assert all(reason for _, reason in DISCLOSURES.values())


def test_flower_carries_one_sealed_value_and_no_metrics() -> None:
    record = to_record(b"sealed")
    assert [type(content).__name__ for content in record.values()] == ["ConfigRecord"]
    assert (len(record.metric_records), len(record.array_records)) == (0, 0)
    assert [len(content) for content in record.config_records.values()] == [1]


@pytest.mark.parametrize("name", [*DISCLOSURES, *RefusalCode, *RelayError])
def test_the_document_lists_it(name: str) -> None:
    text = (ROOT / "docs/privacy.md").read_text()
    assert f"`{name.rpartition('.')[2]}`" in text

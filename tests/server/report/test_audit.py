"""The audit section shows the findings it was given, first of all those that refute the claim, and their limits."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from common.canonical import canonical
from common.report.records import AuditResult, Check, InversionResult
from server.report.audit import audit_section
from server.report.run_files import RunFiles

CONFIG: dict[str, Any] = {"name": "desks", "seed": 3}
AUDIT = AuditResult(
    claimed_epsilon=1.9996,
    lower_bound=0.553,
    confidence=0.95,
    delta=1e-5,
    unit="customer",
    canaries=1500,
    guesses=250,
    right_guesses=156,
    largest_possible_bound=4.67,
    noise_multiplier=3.4,
    claimed_noise_multiplier=3.4,
    planted=False,
    clipping_norm=0.5,
    sampling_probability=0.25,
    steps=40,
    steps_attacked=40,
    checks=(
        Check("noise scale", "deviation of the noise", 1.002, 1.0, 0.7, True),
        Check("sensitivity", "largest change by one customer", 1.31, 1.0, None, False),
    ),
    inversion=InversionResult(8, 10, 50, 49, 30, 1, 0.0016, 0.49, ("profit <b>", "profit <b>", "outer")),
    failed=(),
    config_digest=hashlib.sha256(canonical(CONFIG)).hexdigest(),
)


def section(**changes: Any) -> str:
    return audit_section(RunFiles(config=CONFIG, audit=replace(AUDIT, **changes)))


def test_a_run_that_was_not_audited_has_no_section() -> None:
    assert audit_section(RunFiles(config=CONFIG)) == ""


def test_findings_stand_beside_the_claim_in_the_unit_of_the_run() -> None:
    text = section()
    for part in (
        "No attack refuted what the run claims.",
        "1\u202f500 canaries (customers whose gradient",
        "guessed 250 of the coins, 156 of them right",
        "with confidence 0.95, ε is at least 0.55; claimed is 2.000, both at δ = 1e-05 for one customer",
        "could not have shown more than 4.67",
        "read 49 of 50 tokens if nothing protected it, 30 if it was clipped, and 1 through",
    ):
        assert part in text, part


@pytest.mark.parametrize(("failed", "word"), [((), "holds"), (("sensitivity",), "fails")])
def test_each_check_says_whether_it_holds(failed: tuple[str, ...], word: str) -> None:
    text = section(failed=failed)
    rows = text.split("<tr>")
    [row] = [row for row in rows if "largest change by one customer" in row]
    assert "1.31" in row
    assert word in row
    [other] = [row for row in rows if "deviation of the noise" in row]
    assert "holds" in other


def test_a_refuted_claim_is_never_called_unrefuted() -> None:
    text = section(failed=("canaries", "sensitivity"))
    assert "Refuted: canaries, sensitivity." in text
    assert "No attack refuted" not in text


def test_planted_noise_is_named_so_that_the_page_is_not_taken_for_the_run() -> None:
    text = section(planted=True, noise_multiplier=0.0)
    assert "Noise multiplier 0 was planted, in place of " in text
    assert "No attack refuted" not in text


def test_an_audit_of_another_configuration_is_marked() -> None:
    assert "another configuration" in section(config_digest="0" * 64)
    assert "another configuration" not in section()


def test_sentences_read_back_cannot_act_in_the_page() -> None:
    text = section()
    assert "profit &lt;b&gt;" in text
    assert "<b>" not in text
    without = section(inversion=replace(AUDIT.inversion, example=()))
    assert "Read from the plain update" not in without


def test_an_audit_of_an_earlier_release_is_read_by_its_old_names() -> None:
    earlier = AUDIT.to_json()
    for check in earlier["checks"]:
        check["what"] = check.pop("quantity")
    assert AuditResult.from_json("audit.json", earlier) == AUDIT

"""Terms that give no guarantee do not exist, and a signature holds for one text of one session."""

from dataclasses import replace

import pytest

from common.errors import SecureAggregationRefused
from common.secure_aggregation.terms import Terms, is_signed, sign
from tests.common.secure_aggregation.federation import keys_of, terms_of

NAMES = ("bank00", "bank01", "bank02", "bank03")


@pytest.mark.parametrize(
    ("threshold", "honest"),
    [(5, 2), (3, 1), (2, 3), (2, 2)],  # more than there are, no assumption, more than the threshold, two sets
)
def test_numbers_that_give_no_guarantee_are_refused(threshold: int, honest: int) -> None:
    with pytest.raises(SecureAggregationRefused):
        terms_of(NAMES, threshold, honest)


def test_two_sets_of_survivors_cannot_both_be_signed_by_a_threshold() -> None:
    """Honest institutions sign once. All others, threshold - honest at most, may sign both sets."""
    for number in range(3, 12):
        for threshold in range(2, number + 1):
            for honest in range(2, threshold + 1):
                dishonest = threshold - honest
                two = (number - dishonest) + 2 * dishonest >= 2 * threshold
                assert two is (threshold + honest <= number)


def test_terms_have_one_text() -> None:
    terms = terms_of(NAMES, 3, 2)
    assert Terms.from_json(terms.to_json()) == terms
    for text in ("{}", "[]", terms.to_json() + " ", terms.to_json().replace('"honest":2', '"honest":"2"')):
        with pytest.raises(SecureAggregationRefused):
            Terms.from_json(text)
    with pytest.raises(SecureAggregationRefused, match="not sorted"):
        replace(terms, roster=terms.roster[::-1])


def test_a_signature_is_bound_to_run_round_roster_names_and_value() -> None:
    terms = terms_of(NAMES, 3, 2)
    signed = sign(keys_of("bank00"), terms, "survivors", 4, NAMES, "value")
    right = (keys_of("bank00").public, terms, "survivors", 4, NAMES, "value")
    assert is_signed(signed, *right)
    public, _, kind, round_, names, value = right
    assert not is_signed(signed, keys_of("bank01").public, terms, kind, round_, names, value)
    assert not is_signed(signed, public, terms_of(NAMES, 3, 2, run_id="another"), kind, round_, names, value)
    assert not is_signed(signed, public, terms_of((*NAMES, "bank04"), 4, 2), kind, round_, names, value)
    assert not is_signed(signed, public, terms, "announcement", round_, names, value)
    assert not is_signed(signed, public, terms, kind, 5, names, value)
    assert not is_signed(signed, public, terms, kind, round_, NAMES[:3], value)
    assert not is_signed(signed, public, terms, kind, round_, names, "another")

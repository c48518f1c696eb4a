"""Likely personal data in texts: e-mail addresses, account numbers, card numbers and telephone numbers.

python-stdnum knows the checksums, phonenumbers the plans of the countries. They are imported when they are used.
"""

import re
from collections.abc import Callable
from functools import partial

__all__ = ["KINDS", "personal_data"]

KINDS = ("e-mail", "IBAN", "card number", "phone")

# Without the lookbehind, the time grows with the square of the length of a line such as "-----".
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}")
_CARD = re.compile(r"(?<![\d.,])[2-6]\d{3}(?:[ -]?\d){8,15}(?![\d.,]\d)")
_CARD_LENGTHS = range(13, 20)
_PHONE = re.compile(r"\d(?:[\s().\-/]*\d){6}")
_REGION = "US"
"""Region of numbers without a country code. Those with "+" are found for every country."""


def personal_data(text: str) -> tuple[str, ...]:
    """Return the kinds of personal data that a text seems to hold, in the order of `KINDS`.

    The checksum of an IBAN and of a card number must be right. A telephone number must be valid in its country's plan.

    >>> personal_data("Write to anna@example.com or call +49 30 901820, IBAN DE89 3704 0044 0532 0130 00.")
    ('e-mail', 'IBAN', 'phone')
    >>> personal_data("Net sales rose by 4,012 million to 88,000,000 in 2024.")
    ()
    """
    import phonenumbers

    found = ["e-mail"] if "@" in text and _EMAIL.search(text) else []
    rest = text
    for kind, pattern, is_right in (("IBAN", _IBAN, _is_iban), ("card number", _CARD, _is_card)):
        without = pattern.sub(partial(_blank, is_right), rest)
        if without != rest:
            found.append(kind)
        rest = without  # their digits are no telephone numbers
    if _PHONE.search(rest) and any(phonenumbers.PhoneNumberMatcher(rest, _REGION)):
        found.append("phone")
    return tuple(found)


def _blank(is_right: Callable[[str], bool], match: re.Match[str]) -> str:
    return " " if is_right(match[0]) else match[0]


def _is_iban(candidate: str) -> bool:
    """Return whether the beginning of a candidate is an IBAN. The words after it may have been taken along."""
    from stdnum import iban

    compact = re.sub(r"[ -]", "", candidate)
    return any(iban.is_valid(compact[:end]) for end in range(len(compact), 14, -1))


def _is_card(candidate: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", candidate)
    return len(digits) in _CARD_LENGTHS and len(set(digits)) > 1 and luhn.is_valid(digits)

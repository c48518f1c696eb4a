"""Likely personal data in texts: e-mail addresses, account numbers, card numbers and telephone numbers.

python-stdnum knows the checksums, phonenumbers the plans of the countries. They are imported when they are used.
"""

import re

__all__ = ["KINDS", "personal_data"]

KINDS = ("e-mail", "IBAN", "card number", "phone")

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
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
        right = [match for match in pattern.finditer(rest) if is_right(match[0])]
        if right:
            found.append(kind)
        for match in reversed(right):  # its digits are no telephone number
            rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    if _PHONE.search(rest) and any(phonenumbers.PhoneNumberMatcher(rest, _REGION)):
        found.append("phone")
    return tuple(found)


def _is_iban(candidate: str) -> bool:
    """Return whether the beginning of a candidate is an IBAN. The words after it may have been taken along."""
    from stdnum import iban

    compact = re.sub(r"[ -]", "", candidate)
    return any(iban.is_valid(compact[:end]) for end in range(len(compact), 14, -1))


def _is_card(candidate: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", candidate)
    return len(digits) in _CARD_LENGTHS and len(set(digits)) > 1 and luhn.is_valid(digits)

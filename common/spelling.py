"""Spellings of a label: with which blanks, invisible characters and case two texts are one label."""

import re
import unicodedata
from functools import lru_cache

__all__ = ["clean_label", "label_key", "plain_answer", "plain_label"]

_JOINERS = "\u200c\u200d"
"""Zero-width joiners. Scripts such as Persian need them between two letters, so they stay in the name of a label."""
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Characters that print nothing and are of no category of invisible characters."""
_WHOLE = re.compile(r"(?:[+](?=\d))?(-?\d+)(?:\.0*|,0{1,2})?")
"""A whole number with a sign, or with an empty fraction. Data frames write 1.0, and in some countries 1,0."""
_MINUS = "\u2212"


@lru_cache(maxsize=65_536)  # every word of a corpus has a tag, and there are few tags
def clean_label(label: str) -> str:
    """Return a label without invisible characters, with single blanks, and as a whole number if it is one.

    >>> clean_label(" very\\u00a0 high\\u200b"), clean_label("3.0"), clean_label("+1"), clean_label("2.5")
    ('very high', '3', '1', '2.5')
    """
    visible = "".join(character for character in _INVISIBLE.sub("", label) if not _is_invisible(character))
    text = unicodedata.normalize("NFC", " ".join(_blanks(visible).split())).strip(_JOINERS)
    whole = _WHOLE.fullmatch(text.replace(_MINUS, "-"))
    return whole[1] if whole else text


def plain_label(label: str) -> str:
    """Return a label without case, and with one kind of gap.

    >>> plain_label("Very High")
    'very_high'
    """
    return label_key(label).replace(" ", "_").replace("-", "_")


def plain_answer(text: str) -> str:
    """Return a written answer in the form in which it is compared with a label: without a final full stop too.

    >>> plain_answer(" Very High. ")
    'very_high'
    """
    return plain_label(text.strip().removesuffix("."))


def label_key(label: str) -> str:
    """Return the form that labels share if they differ by case, blanks and invisible characters only."""
    folded = unicodedata.normalize("NFKC", clean_label(label)).casefold()
    return clean_label("".join(character for character in folded if character not in _JOINERS))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" and character not in _JOINERS


def _blanks(text: str) -> str:
    return "".join(" " if unicodedata.category(each) == "Cc" or each == "\u2800" else each for each in text)

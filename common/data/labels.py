"""Sets of labels: which spellings are one label of the set, and which label a number stands for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.data.raw_text import read_text
from common.errors import DataError
from common.spelling import clean_label, label_key, plain_label

__all__ = ["LabelSet", "iob", "label_set", "labels_of", "read_label_file"]

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class LabelSet:
    """The labels of a data set, in the order of the model's outputs.

    Attributes:
        names: The labels.
        numbered: The labels that 0, 1, ... stand for in a file that does not name its numbers. Empty: `names`.
    """

    names: tuple[str, ...]
    numbered: tuple[str, ...] = ()

    @cached_property
    def _places(self) -> tuple[dict[str, int], ...]:
        """By each form of the names, from the exact to the loosest, the place of the name that alone has it."""
        return tuple(_places(self.names, form) for form in (str, clean_label, label_key, plain_label))

    def index(self, label: str, *, is_named: bool = False) -> tuple[int | None, bool]:
        """Return the place of a label as a row has it, and whether it is spelled differently there.

        A spelling is a label's if it differs by case, blanks, gaps or invisible characters only, and is closer to no
        other label. A whole number that is no label is a place in `numbered`. If there are no such names, and the names
        hold the numbers from 0 or 1 on ("grade 1", "grade 2"), it is the label with this number.

        Args:
            label: The label of a row.
            is_named: Whether the file itself names its numbers, so that a number is a name.

        Returns:
            The place, or None if the row has no label of this set.
        """
        written, clean, folded, plain = self._places
        text = clean_label(label)
        exact = written.get(label.strip(), clean.get(text))
        if exact is not None:
            return exact, False
        if not is_named and self.is_number(text):
            return self._place_of(int(text)), False
        for places, form in ((folded, label_key), (plain, plain_label)):
            if (place := places.get(form(text))) is not None:
                return place, True
        return None, False

    @cached_property
    def _held(self) -> tuple[int, ...]:
        """The number in each name, if these are the numbers from 0 or 1 on. Otherwise empty."""
        found = [_NUMBER.findall(unicodedata.normalize("NFKC", name)) for name in self.names]
        numbers = tuple(int(each[0]) for each in found if len(each) == 1)
        ranges = (list(range(start, start + len(self.names))) for start in (0, 1))
        return numbers if sorted(numbers) in ranges else ()

    def is_number(self, label: str) -> bool:
        """Return whether a label is a whole number that is no name, so that it stands for one."""
        text = clean_label(label)
        return text.isascii() and text.isdecimal() and text not in self._places[1]

    def by_number(self) -> dict[int, str]:
        """Return the labels that whole numbers stand for."""
        places = {number: self._place_of(number) for number in range(1 + max(len(self.names), len(self.numbered)))}
        return {number: self.names[place] for number, place in places.items() if place is not None}

    def _place_of(self, number: int) -> int | None:
        if self._held and not self.numbered:
            return self._held.index(number) if number in self._held else None
        names = self.numbered or self.names
        if number >= len(names) or any(name.isdecimal() for name in names):
            return None
        return self.index(names[number], is_named=True)[0]


def _places(names: Sequence[str], form: Callable[[str], str]) -> dict[str, int]:
    """Return the place of each name by a form of it. A form of several names has none."""
    forms = [form(name) for name in names]
    counts = Counter(forms)
    return {each: place for place, each in enumerate(forms) if counts[each] == 1}


def label_set(values: Iterable[str], own: Sequence[str] = (), usual: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the labels of rows, each in one spelling, in a fixed order.

    Args:
        values: The label of each row.
        own: The names that the file itself gives, which are labels even if no row has them, in the file's order.
        usual: The task's own labels. If all labels of the rows are among them, they give the order. If a row spells
            its label as in `usual`, the labels are those of `usual`.

    Returns:
        The labels. Of several spellings of one label, that of `own` or `usual`, otherwise the most frequent.
    """
    counts = Counter(clean_label(value) for value in values)
    preferred = {clean_label(name) for name in (*own, *usual)}
    ranked = sorted(counts, key=lambda label: (label not in preferred, -counts[label], label))
    spelled: dict[str, str] = {label_key(name): name for name in reversed(own)}
    for label in ranked:
        spelled.setdefault(label_key(label), label)
    found = tuple(spelled.values())
    if own:
        extra = [label for label in found if label not in own]
        return (*dict.fromkeys(own), *labels_of(extra))
    places = {plain_label(name): place for place, name in enumerate(usual)}
    if found and all(plain_label(label) in places for label in found):
        if any(label in usual for label in found):
            return tuple(usual)
        return tuple(sorted(found, key=lambda label: (places[plain_label(label)], label)))
    return labels_of(found)


def labels_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels in a fixed order: by number if all are whole numbers, otherwise by text."""
    found = sorted({label.strip() for label in labels})
    numbers = all(label.removeprefix("-").isdecimal() for label in found)
    return tuple(sorted(found, key=int)) if numbers else tuple(found)


def iob(tag: str) -> str | None:
    """Return a tag of IOB, BIOES or BILOU as a tag of IOB, and None for any other text.

    >>> iob("S-ORG"), iob("b-org"), iob("ORG")
    ('B-ORG', 'B-org', None)
    """
    prefix, _, kind = clean_label(tag).partition("-")
    prefix = prefix.upper()
    if prefix == "O" and not kind:
        return "O"
    begins = {"B": "B", "I": "I", "S": "B", "U": "B", "E": "I", "L": "I"}.get(prefix)
    return f"{begins}-{kind}" if begins and kind else None


def read_label_file(path: Path) -> tuple[str, ...]:
    """Read the label set from a text file: one label a line, in the order of the model's outputs.

    Raises:
        DataError: There are fewer than two labels, or one is repeated.
    """
    labels = tuple(clean_label(line) for line in read_text(path).splitlines() if clean_label(line))
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise DataError(f"{path}: give two or more different labels, one a line")
    return labels

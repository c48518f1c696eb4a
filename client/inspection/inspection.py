"""Inspect the rows of one or several splits of a data set."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from client.inspection.languages import languages
from client.inspection.lengths import TokenLengths, token_lengths
from client.inspection.near_duplicates import near_duplicates
from client.inspection.personal_data import KINDS, personal_data
from common.data.datasets import AnyExample, Dataset, Example, text_of

__all__ = ["Inspection", "SplitInspection", "inspect_rows", "label_variants"]

_LISTED_ROWS = 20
_MOST_LABELS, _MOST_SHARE = 200, 0.2
"""Number of labels, and its share of the rows, above which the column of labels may hold text."""

Numbers = tuple[int, ...]
"""Numbers of rows, from 1."""


@dataclass(frozen=True, kw_only=True)
class SplitInspection:
    """The findings about one split.

    Attributes:
        rows: Number of rows.
        labels: Number of rows (of sentences: words) with each label, in the order of the model's outputs. Empty if
            there are so many labels that the column may hold text.
        num_labels: Number of different labels.
        label_variants: Labels that differ only in case, blanks or invisible characters.
        duplicates: Rows whose text is that of an earlier row.
        conflicts: Rows whose text is that of an earlier row with another label.
        near_duplicates: Rows whose text is almost that of an earlier row.
        personal_data: By kind, the rows that seem to hold personal data of that kind.
        languages: By language, the number of rows, of `languages_of` rows that were looked at.
        lengths: Lengths in tokens. None without a tokenizer.
        left_out: Number of parts of the files that were not read, by kind.
    """

    rows: int
    labels: Mapping[str, int]
    num_labels: int
    label_variants: tuple[tuple[str, ...], ...]
    duplicates: Numbers
    conflicts: Numbers
    near_duplicates: Numbers
    personal_data: Mapping[str, Numbers]
    languages: Mapping[str, int]
    languages_of: int
    lengths: TokenLengths | None
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings about all splits.

    Attributes:
        splits: By name.
        shared: By a pair of names, the rows of the second split whose text is in the first.
        nearly_shared: The same for texts that are almost equal, without those that are equal.
    """

    splits: Mapping[str, SplitInspection]
    shared: Mapping[tuple[str, str], Numbers]
    nearly_shared: Mapping[tuple[str, str], Numbers]

    def to_json(self) -> dict[str, Any]:
        """Return the findings as one JSON object. Of rows it has the count, and the numbers of the first twenty."""
        return {
            "splits": [{"name": name} | _split_json(split) for name, split in self.splits.items()],
            "shared": [_pair_json(*each) for each in self.shared.items()],
            "nearly_shared": [_pair_json(*each) for each in self.nearly_shared.items()],
        }


def _split_json(split: SplitInspection) -> dict[str, Any]:
    record = asdict(split)
    for name in ("duplicates", "conflicts", "near_duplicates"):
        record[name] = _rows_json(record[name])
    record["label_variants"] = [list(variants) for variants in split.label_variants]
    record["personal_data"] = {kind: _rows_json(rows) for kind, rows in split.personal_data.items()}
    return record


def _pair_json(pair: tuple[str, str], rows: Numbers) -> dict[str, Any]:
    return {"first": pair[0], "second": pair[1], **_rows_json(rows)}


def _rows_json(rows: Numbers) -> dict[str, Any]:
    return {"count": len(rows), "rows": list(rows[:_LISTED_ROWS])}


def inspect_rows(
    splits: Mapping[str, Dataset],
    tokenizer: Any = None,
    max_tokens: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Inspection:
    """Inspect rows.

    Args:
        splits: Data sets by their names, such as "train" and "test".
        tokenizer: Of the base model, for lengths in tokens.
        max_tokens: Tokens at which texts are cut.
        progress: Called with the name of the step, several times a second. It may wait, or end the look by an error.
    """
    texts = {name: [_text(example) for example in rows.examples] for name, rows in splits.items()}
    equal, near = _repeats(texts, partial(progress, "comparing texts"))
    found: dict[str, SplitInspection] = {}
    for name, rows in splits.items():
        tick = partial(progress, f"reading {name}")
        lengths = None if tokenizer is None or not texts[name] else _lengths(rows, tokenizer, max_tokens, tick)
        looked_up, looked_at = languages(texts[name], tick)
        own = equal.get((name, name), {})
        named = len(rows.labels) <= 20 or len(rows.labels) <= min(_MOST_LABELS, _MOST_SHARE * len(rows))
        found[name] = SplitInspection(
            rows=len(rows),
            labels=dict(zip(rows.labels, rows.label_counts(), strict=True)) if named else {},
            num_labels=len(rows.labels),
            label_variants=label_variants(rows.labels) if named else (),
            duplicates=_numbers(own),
            conflicts=_numbers({row for row, first in own.items() if _label(rows, row) != _label(rows, first)}),
            near_duplicates=_numbers(near.get((name, name), {})),
            personal_data=_personal(texts[name], tick),
            languages=looked_up,
            languages_of=looked_at,
            lengths=lengths,
            left_out=dict(rows.left_out),
        )
    between = [pair for pair in {**equal, **near} if pair[0] != pair[1]]
    return Inspection(
        splits=found,
        shared={pair: _numbers(equal[pair]) for pair in between if pair in equal},
        nearly_shared={pair: _numbers(near[pair]) for pair in between if pair in near},
    )


def label_variants(labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return groups of labels that differ only in case, blanks, underscores or invisible characters.

    >>> label_variants(["Very good", "very_good", "neutral", "1", "-1"])
    (('Very good', 'very_good'),)
    """
    groups: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        seen = (c for c in unicodedata.normalize("NFKC", label) if unicodedata.category(c)[0] not in "ZC")
        plain = "".join(seen).replace("_", "")
        groups.setdefault(plain.casefold() or label, []).append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


Repeats = dict[tuple[str, str], dict[int, int]]
"""By the split of the earlier row and that of the row: position of the row -> position of the earlier row."""


def _repeats(texts: Mapping[str, Sequence[str]], tick: Callable[[], None]) -> tuple[Repeats, Repeats]:
    """Find rows that repeat an earlier one, and rows that almost do. Splits are searched in their order."""
    firsts: dict[str, dict[str, int]] = {}
    equal: Repeats = {}
    for name, rows in texts.items():
        own: dict[str, int] = {}
        for place, text in enumerate(rows):
            for other, known in firsts.items():
                if text in known:
                    equal.setdefault((other, name), {})[place] = known[text]
            if text in own:
                equal.setdefault((name, name), {})[place] = own[text]
            else:
                own[text] = place
        firsts[name] = own
    places: dict[str, tuple[str, int]] = {}
    for name, own in firsts.items():
        for text, place in own.items():
            places.setdefault(text, (name, place))
    where = list(places.values())
    near: Repeats = {}
    for later, earlier in near_duplicates(list(places), tick).items():
        (name, place), (other, first) = where[later], where[earlier]
        near.setdefault((other, name), {})[place] = first
    return equal, near


def _personal(texts: Sequence[str], tick: Callable[[], None]) -> dict[str, Numbers]:
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for number, text in enumerate(texts, start=1):
        tick()
        for kind in personal_data(text):
            found[kind].append(number)
    return {kind: tuple(rows) for kind, rows in found.items() if rows}


def _lengths(rows: Dataset, tokenizer: Any, max_tokens: int, tick: Callable[[], None]) -> TokenLengths:
    read = [text_of(example) for example in rows.examples]
    return token_lengths(read, tokenizer, max_tokens, tick)


def _text(example: AnyExample) -> str:
    text = text_of(example)
    return text if isinstance(text, str) else " ".join(text)


def _label(rows: Dataset, place: int) -> object:
    example = rows.examples[place]
    return example.label if isinstance(example, Example) else getattr(example, "labels", None)


def _numbers(places: Mapping[int, int] | set[int]) -> Numbers:
    return tuple(sorted(place + 1 for place in places))

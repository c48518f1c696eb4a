"""The findings about rows as lines for a terminal, and as a section of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from common.report.html import Html, join, table, tag

__all__ = ["lines", "notable", "section"]

_SHOWN_ROWS = 10
_SHOWN_LABELS = 40
_NOTABLE_CUT = 0.01
"""Share of cut rows above which it is said before a training."""


def lines(inspection: Mapping[str, Any]) -> Iterator[str]:
    """Yield the findings line by line. Rows are named by their numbers.

    Args:
        inspection: `Inspection.to_json`.
    """
    for split in inspection["splits"]:
        yield f"{split['name']}: {split['rows']:,} rows"
        for kind, value in _facts(split):
            yield f"  {kind:18} {value}"
    for pair, finding in _between(inspection):
        yield f"{pair}: {finding}"


def section(inspection: Mapping[str, Any]) -> Html:
    """Return the findings as a section of a page.

    Args:
        inspection: `Inspection.to_json`.
    """
    parts = []
    for split in inspection["splits"]:
        rows = [[kind, value] for kind, value in (("rows", f"{split['rows']:,}"), *_facts(split))]
        parts.append(table(["Finding", "Rows"], [list(row) for row in rows], caption=split["name"], words=2))
    between = [[pair, finding] for pair, finding in _between(inspection)]
    if between:
        parts.append(table(["Splits", "Finding"], [list(row) for row in between], caption="Between splits", words=2))
    return join(tag("h2", "The rows", id="rows"), *parts)


def notable(inspection: Mapping[str, Any]) -> Iterator[str]:
    """Yield the findings that a training should not begin without, one sentence each.

    Args:
        inspection: `Inspection.to_json`.
    """
    for split in inspection["splits"]:
        name, lengths = split["name"], split["lengths"]
        if lengths and lengths["share_cut"] > _NOTABLE_CUT:
            yield (
                f"{name}: {lengths['share_cut']:.1%} of the rows are longer than {lengths['limit']:,} tokens, and "
                f"{lengths['share_lost']:.1%} of all tokens are not read"
            )
        for group in split["label_variants"]:
            yield f"{name}: the labels {' and '.join(map(repr, group))} differ in blanks or case alone"
        if split["conflicts"]["count"]:
            yield f"{name}: {_rows(split['conflicts'])} have the text of an earlier row with another label"
        for kind, rows in split["personal_data"].items():
            yield f"{name}: {_rows(rows)} seem to hold personal data ({kind})"
    for pair, finding in _between(inspection):
        yield f"{pair}: {finding}"


def _facts(split: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if split["num_labels"]:
        many = f"{split['num_labels']:,} different ones, not shown: the column may hold text"
        yield "labels", _labels(split["labels"]) if split["labels"] else many
    for group in split["label_variants"]:
        yield "label variants", f"{' and '.join(map(repr, group))}: write them alike"
    yield "duplicates", _rows(split["duplicates"])
    if split["conflicts"]["count"]:
        yield "other label", f"{_rows(split['conflicts'])}: the text of an earlier row with another label"
    yield "near-duplicates", _rows(split["near_duplicates"])
    if split["lengths"]:
        yield "tokens", _lengths(split["lengths"], split["rows"])
    for kind, rows in split["personal_data"].items():
        yield f"likely {kind}", _rows(rows)
    if not split["personal_data"]:
        yield "personal data", "none was found"
    if split["languages"]:
        yield "languages", _languages(split["languages"], split["languages_of"], split["rows"])
    for kind, count in split["left_out"].items():
        yield "left out", f"{count:,} {kind}"


def _between(inspection: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, kind in (("shared", "with a text of the other"), ("nearly_shared", "with almost a text of the other")):
        for found in inspection[key]:
            first, second = found["first"], found["second"]
            yield f"{first} and {second}", f"{_rows(found)} of {second} {kind}"


def _rows(found: Mapping[str, Any]) -> str:
    if not found["count"]:
        return "none"
    shown = ", ".join(map(str, found["rows"][:_SHOWN_ROWS])) + (", ..." if found["count"] > _SHOWN_ROWS else "")
    return f"{found['count']:,} (row{'s' if found['count'] > 1 else ''} {shown})"


def _labels(labels: Mapping[str, int]) -> str:
    counts = sorted(labels.items(), key=lambda item: -item[1])
    more = f", and {len(counts) - _SHOWN_LABELS} more" if len(counts) > _SHOWN_LABELS else ""
    return ", ".join(f"{name} {count:,}" for name, count in counts[:_SHOWN_LABELS]) + more


def _lengths(found: Mapping[str, Any], rows: int) -> str:
    sampled = f", of {found['measured']:,} rows" if found["measured"] < rows else ""
    return (
        f"median {found['median']:,}, 95 % up to {found['percentile_95']:,}, longest {found['longest']:,}; at "
        f"{found['limit']:,} tokens {found['share_cut']:.1%} of the rows are cut and {found['share_lost']:.1%} of all "
        f"tokens are lost{sampled}"
    )


def _languages(counts: Mapping[str, int], looked_at: int, rows: int) -> str:
    shares = ", ".join(f"{name} {count / max(1, looked_at):.1%}" for name, count in list(counts.items())[:8])
    return f"{shares} of {looked_at:,} sampled rows" if looked_at < rows else shares

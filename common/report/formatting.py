"""Numbers and codes as text, in one place, so that a figure reads the same everywhere."""

import math
from collections.abc import Sequence

__all__ = [
    "METRICS",
    "capitalised",
    "format_bytes",
    "format_count",
    "format_epsilon",
    "format_metric",
    "format_percent",
    "format_value",
    "join_names",
]

METRICS = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "high_risk_f1": "high-risk F1",
    "entity_f1": "entity F1",
    "f1": "entity F1",
    "rouge_l": "ROUGE-L",
    "valid_answers": "share of valid answers",
}


def format_epsilon(value: float | None) -> str:
    """An epsilon at three decimals, rounded up: a privacy loss is never shown smaller than it is.

    >>> format_epsilon(2.99961), format_epsilon(3.0), format_epsilon(float("inf")), format_epsilon(None)
    ('3.000', '3.000', '∞', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{math.ceil(round(value * 1000, 6)) / 1000:.3f}"


def format_metric(value: float | None) -> str:
    """A metric between 0 and 1, three decimals."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def capitalised(words: str) -> str:
    """The first letter large, the others as they are ("F1" stays)."""
    return words[:1].upper() + words[1:]


def format_value(value: object) -> str:
    """A value of a configuration or statement: numbers short, absent things as a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(v) for v in value) or "–"
    return str(value)


def format_count(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    return "–" if value is None or not math.isfinite(value) else f"{int(value):,}".replace(",", "\u202f")


def format_percent(part: float | None, whole: float | None) -> str:
    """Per cent of `whole`, rounded up like an epsilon."""
    if part is None or whole is None:
        return "–"
    if math.isinf(part) or whole <= 0:
        return "all" if part > 0 else "0 %"
    return f"{math.ceil(round(100 * part / whole, 6))} %"


def format_bytes(value: float | None) -> str:
    """Bytes in decimal units.

    >>> format_bytes(999), format_bytes(1_240_000), format_bytes(None)
    ('999 B', '1.24 MB', '–')
    """
    if value is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:.0f} {unit}"
    return f"{value:.0f} B"


def join_names(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> join_names(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

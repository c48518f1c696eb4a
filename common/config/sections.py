"""Frozen dataclasses that check themselves: the annotation of a field is the only place that says its allowed values.

A value that is out of place is a `ConfigurationError` naming `section.key`, whether it came from TOML, from JSON or
from `dataclasses.replace`. So every existing instance is valid.
"""

import difflib
import json
import math
import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from common.canonical import LARGEST_NUMBER
from common.errors import ConfigurationError

__all__ = ["Range", "Section", "build", "check_value", "did_you_mean", "error_prefix", "format_value", "refuse_unknown"]


S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`. `above` and `below` exclude the ends themselves."""

    low: float
    high: float = LARGEST_NUMBER
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        if self.high == LARGEST_NUMBER:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.high:.12g}"


class Section:
    """Base of a frozen dataclass that is one section of a configuration.

    Subclasses set `section` and may override `check` for conditions over several fields.
    """

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for key, hint in _hints(type(self)).items():
            object.__setattr__(self, key, check_value(getattr(self, key), hint, self.place(key)))
        self.check()

    def check(self) -> None:
        """Refuse combinations of fields that are each valid alone."""

    @classmethod
    def place(cls, key: str) -> str:
        """Return the place of `key` in the file: `section.key`."""
        return f"{cls.section}.{key}"

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raise the error about `key`. `why` continues the sentence after its name."""
        raise ConfigurationError(f"{self.place(key)} {why}")


def build(cls: type[S], given: object) -> S:
    """An instance of `cls` from one table of a file.

    Raises:
        ConfigurationError: not a table, an unknown or missing key, a value or combination that cannot be used.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{cls.section} is {format_value(given)}: write it as a table, [{cls.section}]")
    refuse_unknown(given, _hints(cls), cls.section)
    for field in fields(cls):  # type: ignore[arg-type]
        is_required = field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in given:
            raise ConfigurationError(f"{cls.place(field.name)} is missing: give {_words(_hints(cls)[field.name])}")
    return cls(**given)


def refuse_unknown(given: Mapping[str, object], known: Collection[str], section: str = "") -> None:
    """Refuse the first key of `given` that is not `known`, naming the nearest that is."""
    for key in given:
        if key not in known:
            place = format_value(key)[1:-1]
            hint = did_you_mean(key, known) or f"use {', '.join(known)}"
            where = f"{section}.{place} is not a known key" if section else f"[{place}] is not a known section"
            raise ConfigurationError(f"{where}: {hint}")


def did_you_mean(value: str, known: Collection[str]) -> str:
    """A question that offers the nearest of `known`, or nothing."""
    found = difflib.get_close_matches(value, known, n=1)
    return f"did you mean {found[0]}?" if found else ""


def format_value(value: object) -> str:
    """`value` as a file would hold it, on one line and short."""
    if isinstance(value, Mapping):
        return "a table"
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:56]} ..."


@contextmanager
def error_prefix(source: str) -> Iterator[None]:
    """Put the name of the file in front of every `ConfigurationError` from the block."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def check_value(value: object, hint: Any, place: str) -> Any:
    """`value` as the type `hint` wants it (an integer becomes a float, a list a tuple, a text a path).

    Understood are bool, int, float, str, Path, tuple[str, ...], Mapping[str, tuple[str, ...]], Literal of texts,
    Section classes, unions of these with each other and None, and `Annotated` with a `Range`.

    Raises:
        ConfigurationError: it is of another type, out of range, not finite, or an empty or many-lined text.
    """
    kinds, limits = _parts(hint)
    if kinds and get_origin(kinds[0]) is Mapping and isinstance(value, Mapping):
        return _lists_by_name(value, get_args(kinds[0])[1], place)
    for kind in kinds:
        fitted = _fit(value, kind)
        if fitted is not _UNFIT and (limits is None or fitted is None or fitted in limits):
            return fitted
    question = did_you_mean(value, _choices(kinds)) if isinstance(value, str) else ""
    advice = f"{question} use {_words(hint)}".lstrip()
    raise ConfigurationError(f"{place} is {format_value(value)}: {advice}")


_UNFIT = object()


def _fit(value: object, kind: Any) -> Any:
    """`value` as a `kind`, or `_UNFIT`."""
    if kind is types.NoneType:
        return None if value is None else _UNFIT
    if kind is bool or kind is int:
        return value if type(value) is kind else _UNFIT
    if kind is float:
        # Adding zero turns -0.0 into 0.0: one value, one digest.
        return number + 0.0 if (number := _finite(value)) is not None else _UNFIT
    if kind is str:
        return value if _is_text(value) else _UNFIT
    if kind is Path:
        return Path(str(value)) if isinstance(value, Path) or _is_text(value) else _UNFIT
    if get_origin(kind) is Literal:
        return value if isinstance(value, str) and value in get_args(kind) else _UNFIT
    if get_origin(kind) is tuple:
        fits = isinstance(value, list | tuple) and all(_is_text(v) for v in value) and len(set(value)) == len(value)
        return tuple(value) if fits else _UNFIT  # type: ignore[arg-type]
    return value if isinstance(kind, type) and isinstance(value, kind) else _UNFIT


def _lists_by_name(table: Mapping[Any, object], kind: Any, place: str) -> dict[str, Any]:
    """Return a table of lists, sorted by name, so that its order changes no digest."""
    one_line = "of one line without blanks at its ends"
    if not all(_is_text(name) for name in table):
        raise ConfigurationError(f"{place} is a table with a name that is no text {one_line}: rename it")
    found = {}
    for name in sorted(table):
        value = table[name]
        if _fit(value, kind) is _UNFIT or not value:
            shown = "a list of other values, or of none" if isinstance(value, list | tuple) else format_value(value)
            raise ConfigurationError(
                f"{place} is a table whose {format_value(name)} is {shown}: use {_words(kind)}, each {one_line}"
            )
        found[name] = _fit(value, kind)
    return found


def _finite(value: object) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip()) and value == value.strip()


def _words(hint: Any) -> str:
    """Return the allowed values of a field, in words."""
    kinds, limits = _parts(hint)
    bounds = f" {limits}" if limits else ""
    words = {bool: "true or false", int: f"a whole number{bounds}", float: f"a number{bounds}", str: "a text"}
    words |= {Path: "a path", types.NoneType: "leave it out"}
    found = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            found.append(" or ".join(f'"{choice}"' for choice in get_args(kind)))
        elif get_origin(kind) is tuple:
            found.append("a list of different texts")
        elif get_origin(kind) is Mapping:
            found.append("a table whose values are lists of different texts")
        else:
            found.append(words.get(kind) or f"a table, [{kind.section}]")
    return ", or ".join(dict.fromkeys(found))


def _choices(kinds: tuple[Any, ...]) -> list[str]:
    return [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def _parts(hint: Any) -> tuple[tuple[Any, ...], Range | None]:
    limits = None
    if get_origin(hint) is Annotated:
        hint, limits = get_args(hint)[:2]
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return kinds, limits


def _hints(cls: type[Section]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}  # type: ignore[arg-type]

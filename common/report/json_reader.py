"""Read JSON files of a run as typed records. A damaged file is one error that names the file and the key."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from common.canonical import LARGEST_NUMBER
from common.errors import CheckpointError
from common.files import INFINITE

__all__ = ["JsonReader", "Record", "describe_kind", "read_json"]

_REPAIR = "restore the file or run again"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of the records that one process writes as JSON and another reads. Subclasses are frozen dataclasses.

    A field is a number, text, truth value, list, mapping or another record, as its type says. A field that is absent
    from a file has its default, so files of earlier releases can be read.
    """

    VERSION: ClassVar[int] = 1
    """Format of the file. A file without a version has version 1."""
    EARLIER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """By name of a field, its name in files of earlier releases. Records inside of a record may have them too."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as one JSON object, with its version."""
        return {"version": self.VERSION, **_plain_fields(self)}

    @classmethod
    def from_json(cls, source: str, value: object) -> Self:
        """Read a record from a parsed JSON value.

        Args:
            source: Name of the file, for messages.
            value: The parsed JSON value.

        Raises:
            CheckpointError: A field has another type, a required field is absent, or a later release wrote the file.
        """
        reader = JsonReader(source, value)
        version = reader.whole("version") or 1
        if version > cls.VERSION:
            raise CheckpointError(
                f"{source}: version {version}, and this release reads up to {cls.VERSION}: install the release that "
                "wrote it"
            )
        record: Self = _read_fields(cls, reader)
        return record


class JsonReader:
    """Takes typed values out of one JSON object. An error names the file and the key.

    Args:
        source: Name of the file, for messages.
        value: The parsed JSON value.

    Raises:
        CheckpointError: `value` is not an object. The methods raise it if a value has another type.
    """

    def __init__(self, source: str, value: object) -> None:
        if not isinstance(value, dict):
            raise CheckpointError(f"{source}: expected a JSON object, found {describe_kind(value)}: {_REPAIR}")
        self.source, self.value = source, value

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a value that is not `expected`."""
        kind = describe_kind(self.value.get(key))
        return CheckpointError(f"{self.source}: {key}: expected {expected}, found {kind}: {_REPAIR}")

    def number(self, key: str) -> float | None:
        """Return a number, which may be infinite. None if the key is absent or null."""
        value = self.value.get(key)
        if value is None:
            return None
        value = math.inf if value == INFINITE else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        if value != value or (abs(value) > LARGEST_NUMBER and value != math.inf):  # NaN, or absurd
            raise CheckpointError(f"{self.source}: {key}: not a usable number: {_REPAIR}")
        return value

    def whole(self, key: str) -> int | None:
        """Return a whole number of at least 0. None if the key is absent or null."""
        value = self.number(key)
        if value is None:
            return None
        if value < 0 or value == math.inf or value != value // 1:
            raise CheckpointError(f"{self.source}: {key}: not a whole number of at least 0: {_REPAIR}")
        return int(value)

    def text(self, key: str) -> str | None:
        """Return a string. None if the key is absent or null."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def truth(self, key: str) -> bool | None:
        """Return true or false. None if the key is absent or null."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty if the key is absent."""
        value = self.value.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise self.wrong(key, "a list of strings")
        return tuple(value or ())

    def objects(self, key: str) -> list["JsonReader"]:
        """Return a reader for each object of a list, none if the key is absent."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "a list of objects")
        return [JsonReader(f"{self.source}: {key}[{index}]", each) for index, each in enumerate(value or [])]

    def inner(self, key: str) -> "JsonReader":
        """Return a reader for an object, an empty one if the key is absent."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return JsonReader(f"{self.source}: {key}", value or {})


def _plain_fields(record: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _plain(value: object) -> object:
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _read_fields(kind: Any, reader: JsonReader) -> Any:
    hints, earlier = get_type_hints(kind), getattr(kind, "EARLIER_NAMES", {})
    values: dict[str, Any] = {}
    for field in fields(kind):
        key = field.name if field.name in reader.value else earlier.get(field.name, field.name)
        values[field.name] = _read_field(reader, key, field, hints[field.name])
    return kind(**values)


def _read_field(reader: JsonReader, key: str, field: "Field[Any]", hint: Any) -> Any:
    if reader.value.get(key) is None:
        if field.default is not MISSING:
            return field.default
        if field.default_factory is not MISSING:
            return field.default_factory()
        raise reader.wrong(key, "a value")
    return _read_value(reader, key, hint)


def _read_value(reader: JsonReader, key: str, hint: Any) -> Any:
    """Read a value that is not null."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    simple = {float: reader.number, int: reader.whole, str: reader.text, bool: reader.truth}
    if hint in simple:
        return simple[hint](key)
    if is_dataclass(hint):
        return _read_fields(hint, reader.inner(key))
    arguments = get_args(hint)
    if get_origin(hint) is tuple and arguments[0] is str:
        return reader.texts(key)
    if get_origin(hint) is tuple:
        return tuple(_read_fields(arguments[0], each) for each in reader.objects(key))
    if get_origin(hint) is Mapping:
        inner = reader.inner(key)
        optional = NoneType in get_args(arguments[1])
        names = [name for name in sorted(inner.value) if optional or inner.value[name] is not None]
        return {name: None if inner.value[name] is None else _read_value(inner, name, arguments[1]) for name in names}
    raise TypeError(f"{key}: no record may have a field of type {hint}")


def describe_kind(value: object) -> str:
    """Return the kind of a parsed JSON value in words, such as "a list"."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. None if there is no such file.

    Raises:
        CheckpointError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}): {_REPAIR}") from error
    except ValueError as error:
        place = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not text or not a usable number"
        raise CheckpointError(f"{path}: not valid JSON ({place}): {_REPAIR}") from error

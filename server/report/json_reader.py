"""One JSON file's values, each checked for its kind; a damaged file is one error that names file and key."""

import json
import math
from pathlib import Path
from typing import Any

from common.errors import CheckpointError
from common.files import INFINITE

__all__ = ["JsonReader", "kind", "read_json"]

_LARGEST = 1e18


class JsonReader:
    """Takes typed values out of one JSON object and names file and key when a value is of another kind."""

    def __init__(self, source: str, value: object) -> None:
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{source}: expected a JSON object, found {kind(value)}: restore the file or run again"
            )
        self.source, self.value = source, value

    def wrong(self, key: str, expected: str) -> CheckpointError:
        found = kind(self.value.get(key))
        return CheckpointError(
            f"{self.source}: {key}: expected {expected}, found {found}: restore the file or run again"
        )

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.value.get(key)
        if value is None:
            return default
        value = math.inf if value == INFINITE else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        if value != value or (abs(value) > _LARGEST and value != math.inf):  # NaN, or absurd
            raise CheckpointError(f"{self.source}: {key}: not a usable number: restore the file or run again")
        return value

    def whole(self, key: str) -> int:
        """A whole number of at least 0, 0 where there is none."""
        value = self.number(key)
        if value is not None and (value < 0 or value != value // 1):
            raise CheckpointError(
                f"{self.source}: {key}: not a whole number of at least 0: restore the file or run again"
            )
        return int(value or 0)

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value or ""

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise self.wrong(key, "a list of strings")
        return tuple(value or ())

    def objects(self, key: str) -> list["JsonReader"]:
        """The objects of a list; none where there is no list."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "a list of objects")
        return [JsonReader(f"{self.source}: {key}[{index}]", each) for index, each in enumerate(value or [])]

    def inner(self, key: str) -> "JsonReader":
        value = self.value.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return JsonReader(f"{self.source}: {key}", value or {})

    def numbers(self, key: str) -> dict[str, float]:
        inner = self.inner(key)
        read = {name: inner.number(name) for name in sorted(inner.value)}
        return {name: value for name, value in read.items() if value is not None}


def kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def read_json(path: Path) -> Any:
    """The value in a JSON file, or None where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): restore the file or run again"
        ) from error
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not text or not a usable number"
        raise CheckpointError(f"{path}: not valid JSON ({where}): restore the file or run again") from error

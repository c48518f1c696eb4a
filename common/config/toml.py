"""TOML files, read with one clear line for whatever is wrong with them."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import ConfigurationError

__all__ = ["apply_overrides", "load_toml", "parse_toml", "read_config"]


def read_config(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigurationError: it is absent, unreadable or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such configuration file: give the path of a TOML file") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}): give the path of a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not a text in UTF-8: save it as UTF-8") from None


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ConfigurationError: the syntax is wrong. The message gives the line.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not TOML: {' '.join(str(error).split())}: correct the syntax") from None


def load_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. See `read_config` and `parse_toml` for its errors."""
    return parse_toml(read_config(path), str(path))


def apply_overrides(tables: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return `tables` with each `section.key=value` of `changes` applied. A value is TOML, or else a bare text.

    An empty value takes the key out.

    Raises:
        ConfigurationError: a change of another form.
    """
    result: dict[str, Any] = copy.deepcopy(dict(tables))
    for change in changes:
        place, equals, value = change.partition("=")
        section, dot, key = place.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigurationError(f"--set {change}: write it as section.key=value, as in privacy.target_epsilon=3")
        table = result.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"--set {change}: {section} is not a section")
        if not value.strip():
            table.pop(key, None)
            continue
        try:
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = value.strip()
    return result

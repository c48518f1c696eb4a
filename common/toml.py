"""TOML files, read with one clear line for whatever is wrong with them."""

import tomllib
from pathlib import Path
from typing import Any

from common.errors import ConfigurationError

__all__ = ["load_toml", "parse_toml", "read_config"]


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
        ConfigurationError: the syntax is wrong; the message gives the line.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not TOML: {' '.join(str(error).split())}: correct the syntax") from None


def load_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; see `read_config` and `parse_toml` for what may be wrong with it."""
    return parse_toml(read_config(path), str(path))

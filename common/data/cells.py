"""Values of a table's cells as text."""

import datetime
import numbers
import uuid
from decimal import Decimal
from pathlib import Path

from common.data.table import shown
from common.errors import DataError

__all__ = ["as_text", "as_texts", "is_utf8"]


def as_texts(path: Path, row: int, column: str, value: object) -> list[str]:
    """Return a list of values as texts.

    Raises:
        DataError: The value is no list, or see `as_text`.
    """
    if not isinstance(value, list):
        raise DataError(f"{path}: row {row}, column {shown(column)} is not a list: give one entry a word")
    return [as_text(path, row, column, each) for each in value]


def as_text(path: Path, row: int, column: str, value: object) -> str:
    """Return a value as a table in text form has it. None and NaN are "".

    Dates are ISO 8601. A timestamp at midnight is its date. Whole decimal numbers have no fraction.

    Args:
        path, row, column: Place of the value, for the message.
        value: A text, a number, a bool, a date or time, an identifier, or bytes of UTF-8.

    Raises:
        DataError: The value is none of these, or is not UTF-8.
    """
    if value is None or value != value:  # NaN: absent, as data frames write it
        return ""
    if isinstance(value, bytes):  # a text column without a declared encoding, as some warehouses export it
        value = value.decode("utf-8", errors="surrogateescape")
    if isinstance(value, str):
        if not is_utf8(value):
            raise DataError(f"{path}: row {row}, column {shown(column)} is not UTF-8: convert the file")
        return value
    text = _plain(value)
    if text is None:
        raise DataError(f"{path}: row {row}, column {shown(column)} is neither a text, a number nor a date")
    return text


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded. Half of a surrogate pair cannot, as JSON may hold one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: object) -> str | None:
    match value:
        case bool():
            return str(value)
        case Decimal():
            return f"{int(value)}" if value == value.to_integral_value() else f"{value:f}"
        case datetime.datetime():
            midnight = value.tzinfo is None and value.time() == datetime.time()
            return value.date().isoformat() if midnight else value.isoformat(" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta() | uuid.UUID():
            return str(value)
        case numbers.Integral():
            return str(int(value))
        case numbers.Real():
            return str(float(value))
        case _:
            return None

"""Content of Flower's messages: sealed bytes as one record with one value, or an error from a closed list."""

from enum import StrEnum

from flwr.app import ConfigRecord, Error, RecordDict

from common.errors import MessageError

__all__ = ["RelayError", "from_error", "from_record", "to_error", "to_record"]

_RECORD = "fedfin"
_VALUE = "sealed"
_ERROR_CODE = 700  # Flower's own codes are below 100


class RelayError(StrEnum):
    """The reason why an institution's relay brings no sealed answer. The hub learns nothing more."""

    UNAVAILABLE = "unavailable"  # the agent is not running, or went away meanwhile
    LATE = "late"  # it did not answer within the message's time
    BUSY = "busy"  # too many questions wait already
    UNREADABLE = "unreadable"  # the bytes are no assignment of this hub to this institution
    FAILED = "failed"  # anything else


def to_record(sealed: bytes) -> RecordDict:
    """`sealed` as the only value of a Flower message's content."""
    return RecordDict({_RECORD: ConfigRecord({_VALUE: sealed})})


def from_record(record: RecordDict) -> bytes:
    """The sealed bytes of a Flower message's content.

    Raises:
        MessageError: another record, another value, or more than the one.
    """
    content = record.get(_RECORD)
    if len(record) != 1 or not isinstance(content, ConfigRecord) or list(content) != [_VALUE]:
        raise MessageError("Flower message: not one sealed value: the sender may run another app")
    sealed = content[_VALUE]
    if not isinstance(sealed, bytes):
        raise MessageError("Flower message: its sealed value is not bytes: the sender may run another app")
    return sealed


def to_error(why: RelayError) -> Error:
    """`why` as Flower's error: a code and that one word, never an exception's text."""
    return Error(code=_ERROR_CODE, reason=str(why))


def from_error(error: Error) -> RelayError | None:
    """Read the error that `to_error` wrote. Return None for an error of Flower's own, whose text is not trusted."""
    try:
        return RelayError(error.reason) if error.code == _ERROR_CODE else None
    except ValueError:
        return None

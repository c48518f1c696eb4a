"""Content of Flower's messages: sealed bytes as one record with one value, or an error from a closed list.

Long sealed bytes are an array, which Flower divides into pieces of 5 MiB. Each piece is a request of its own, below the
limits of the hub's gateway. If a transfer is cut, the pieces that arrived are not sent again.
"""

from enum import StrEnum

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, RecordDict

from common.errors import MessageError

__all__ = ["RelayError", "from_error", "from_record", "to_error", "to_record"]

_RECORD = "fedfin"
_VALUE = "sealed"
_PIECE_BYTES = 5 * 2**20
"""Size of Flower's pieces. Shorter bytes are one object, which costs fewer requests."""
_BYTES = "bytes"
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
    if len(sealed) <= _PIECE_BYTES:
        return RecordDict({_RECORD: ConfigRecord({_VALUE: sealed})})
    array = Array(dtype="uint8", shape=(len(sealed),), stype=_BYTES, data=sealed)
    return RecordDict({_RECORD: ArrayRecord({_VALUE: array})})


def from_record(record: RecordDict) -> bytes:
    """The sealed bytes of a Flower message's content.

    Raises:
        MessageError: another record, another value, or more than the one.
    """
    content = record.get(_RECORD)
    if len(record) != 1 or not isinstance(content, ConfigRecord | ArrayRecord) or list(content) != [_VALUE]:
        raise MessageError("Flower message: not one sealed value: the sender may run another app")
    value = content[_VALUE]
    sealed = value.data if isinstance(value, Array) and value.stype == _BYTES else value
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

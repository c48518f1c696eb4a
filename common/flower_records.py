"""Sealed bytes <-> Flower's RecordDict: one record, one value, nothing beside it."""

from flwr.app import ConfigRecord, RecordDict

from common.errors import MessageError

__all__ = ["from_record", "to_record"]

_RECORD = "fedfin"
_VALUE = "sealed"


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

"""Every message has one encoding, and other bytes are refused."""

import pytest

from common.errors import MessageError
from common.protocol.messages import PrivacyStatement
from common.secure_aggregation.messages import (
    ANSWERS,
    Announcement,
    Confirmation,
    ConfirmationRequest,
    DealtShares,
    MaskedSum,
    MaskedSumRequest,
    Pads,
    SecureMessage,
    SharesRequest,
    Unmasking,
)

STATEMENT = PrivacyStatement(1.2, 1.0, 1, 1e-5, 3.0, 0.25)
MESSAGES: tuple[SecureMessage, ...] = (
    Announcement("d", 1, b"key", 256, b"signature"),
    DealtShares("d", 1, {"b": b"two", "a": b"one"}, b"digests"),
    Pads("d", 1, {}, ("north",)),
    MaskedSum("d", 2, b"\1\2\3\4", "s", "c", None, STATEMENT, 8.0),
    Confirmation("d", 2, b"signature"),
    Unmasking("d", 2, b"seed", {"a": b"share"}),
    SharesRequest("d", 1, 32, {"a": b"one"}),
    MaskedSumRequest("d", 2, b"assignment", ("a", "b")),
    ConfirmationRequest("d", 2, ("a", "b")),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_the_bytes_give_the_message_and_nothing_else_does(message: SecureMessage) -> None:
    data = message.to_bytes()
    assert type(message).from_bytes(data) == message
    other = next(kind for kind in ANSWERS if kind is not type(message))
    for wrong in (data + b"x", data[:-1], b"", data.replace(b'"round"', b'"Round"')):
        with pytest.raises(MessageError):
            type(message).from_bytes(wrong)
    with pytest.raises(MessageError):
        other.from_bytes(data)


def test_fields_of_another_kind_are_refused() -> None:
    for wrong in (("d", -1, ("a",)), ("d", 1, ("b", "a")), ("d", 1, ("a", "a")), ("d", True, ("a",))):
        with pytest.raises(MessageError):
            ConfirmationRequest(*wrong)
    for units in (0, 3, True):
        with pytest.raises(MessageError):
            Announcement("d", 1, b"", units, b"")
    with pytest.raises(MessageError):
        MaskedSum("d", 2, b"", "s", "c", None, STATEMENT, float("nan"))

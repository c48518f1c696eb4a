"""The texts and places that both sides of a session agree on: announced keys, packets and confirmed sets."""

import hashlib
from collections.abc import Mapping

from common.errors import EnvelopeError, SecureAggregationRefused
from common.identity.keys import PublicKeys
from common.protocol.envelope import MessageContext
from common.secure_aggregation.messages import Announcement
from common.secure_aggregation.terms import Terms, is_signed

__all__ = ["announced_keys", "announced_value", "confirmed_value", "packet_context", "session_digest"]


def packet_context(terms: Terms, sender: str, recipient: str) -> MessageContext:
    """Return the place of the packet that one institution seals to another."""
    return MessageContext(terms.run_id, terms.first_round, "secure packet", sender, recipient)


def announced_keys(terms: Terms, name: str, announcement: Announcement) -> PublicKeys:
    """Return the keys of an institution in this session.

    Raises:
        SecureAggregationRefused: The institution is not in the roster, or did not sign them.
    """
    known = terms.keys.get(name)
    place = (terms, "announcement", terms.first_round, (name,), announced_value(announcement))
    if known is None or not is_signed(announcement.signature, known, *place):
        raise SecureAggregationRefused("config", f"secure aggregation: {name} did not announce these keys")
    try:
        return PublicKeys(name, known.signing, announcement.sealing)
    except EnvelopeError as error:
        raise SecureAggregationRefused("config", f"secure aggregation: {error}") from None


def confirmed_value(session: str, members: tuple[str, ...]) -> str:
    """Return the value that survivors sign beside their own names.

    Args:
        session: Digest of all announcements, which no earlier session has.
        members: The institutions that mask with each other.
    """
    return hashlib.sha256("|".join((session, *members)).encode()).hexdigest()


def session_digest(announcements: Mapping[str, bytes]) -> str:
    """Return the SHA-256, in hex, of all announcements."""
    parts = [hashlib.sha256(announcements[name]).digest() for name in sorted(announcements)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def announced_value(announcement: Announcement) -> str:
    """Return the value that an institution signs to announce its keys and its size."""
    return f"{announcement.sealing.hex()}|{announcement.declared_units}"

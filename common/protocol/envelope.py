"""Seal a payload for one recipient, signed by one sender, bound to one place in one run.

    seal = HPKE (RFC 9180, base mode: ML-KEM-768 + X25519, HKDF-SHA256, AES-256-GCM), then Ed25519 over all of it

The header names run, round, kind, both parties and the fingerprints of both parties' keys. It is HPKE's `info`,
so a ciphertext opens under that header alone. The header is also signed together with the ciphertext. Whoever strips
the signature and puts his own needs a header with his own fingerprint, and under that one the ciphertext does not
open. The signature is checked before anything is decrypted.

Not given: forward secrecy for the recipient (a stolen sealing key opens recorded messages), and deniability.
"""

import hashlib
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from common.canonical import (
    MAX_MESSAGE_BYTES,
    MAX_ROUND,
    MAX_SEALED_BYTES,
    canonical,
    frame,
    is_name,
    parse_object,
    unframe,
)
from common.errors import EnvelopeError
from common.identity.keys import PrivateKeys, PublicKeys

__all__ = ["MessageContext", "PublicKeys", "open_sealed", "peek", "seal"]

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MAGIC = b"fedfin envelope 1\n"
_SIGNED = b"fedfin envelope 1 signature\n"
_SEALED = b"fedfin envelope 1 hpke\n"
_SIGNATURE_BYTES = 64
_MAX_HEADER_BYTES = 4096


@dataclass(frozen=True)
class MessageContext:
    """Where a sealed message belongs: one kind of message, in one round of one run, from one party to one other.

    Raises:
        EnvelopeError: code "context": a name of other than 1 to 128 plain characters, or a round out of range.
    """

    run_id: str
    round: int
    kind: str
    sender: str
    recipient: str

    def __post_init__(self) -> None:
        for field in ("run_id", "kind", "sender", "recipient"):
            if not is_name(getattr(self, field)):
                raise EnvelopeError(
                    "context", f"envelope: {field}: expected 1 to 128 letters, digits, ' ', '_', '.', '-'"
                )
        if type(self.round) is not int or not 0 <= self.round <= MAX_ROUND:
            raise EnvelopeError("context", f"envelope: round: expected a whole number from 0 to {MAX_ROUND}")


def seal(payload: bytes, sender: PrivateKeys, recipient: PublicKeys, context: MessageContext) -> bytes:
    """Encrypt `payload` to `recipient` and sign it as `sender`. Not deterministic: retransmit the bytes, not the call.

    Raises:
        EnvelopeError: code "context" when the keys are not those of the parties in `context`, "too_large", or
            "keys" when the recipient's key is unusable.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise EnvelopeError("too_large", f"envelope: a payload of {len(payload)} bytes: at most {MAX_MESSAGE_BYTES}")
    header = _header(context, sender.public, recipient)
    try:
        ciphertext = _SUITE.encrypt(payload, recipient.sealing_key, info=_SEALED + header)
    except ValueError:
        raise EnvelopeError("keys", f"public keys of {recipient.name}: unusable for sealing: enrol again") from None
    return frame(_MAGIC, header, sender.signing_key.sign(_signed(header, ciphertext)) + ciphertext)


def open_sealed(
    data: bytes, recipient: PrivateKeys, sender: PublicKeys, context: MessageContext, max_bytes: int = MAX_SEALED_BYTES
) -> bytes:
    """The payload that `sender` sealed to `recipient` for exactly `context`.

    Raises:
        EnvelopeError: code "too_large", "malformed", "context" (it belongs elsewhere), "keys" (made by or for
            other keys of these parties), "signature" (altered, or not the sender's) or "ciphertext" (it does not
            open although signed).
    """
    expected = _header(context, sender, recipient.public)
    header, body = _split(data, max_bytes)
    if header != expected:
        if _context(header) != context:
            raise EnvelopeError("context", "envelope: made for another run, round, kind or party: not opened")
        raise EnvelopeError("keys", f"envelope from {sender.name}: made with other keys than enrolled: not opened")
    signature, ciphertext = bytes(body[:_SIGNATURE_BYTES]), bytes(body[_SIGNATURE_BYTES:])
    try:
        sender.signing_key.verify(signature, _signed(header, ciphertext))
    except InvalidSignature:
        raise EnvelopeError("signature", f"envelope from {sender.name}: its signature does not verify") from None
    try:
        return _SUITE.decrypt(ciphertext, recipient.sealing_key, info=_SEALED + header)
    except (InvalidTag, ValueError):
        raise EnvelopeError("ciphertext", f"envelope from {sender.name}: it does not open: ask for it again") from None


def peek(data: bytes, max_bytes: int = MAX_SEALED_BYTES) -> MessageContext:
    """Return the context that the header claims. Nothing of it is authenticated: for routing only, then `open_sealed`.

    Raises:
        EnvelopeError: code "too_large" or "malformed".
    """
    return _context(_split(data, max_bytes)[0])


def _header(context: MessageContext, sender: PublicKeys, recipient: PublicKeys) -> bytes:
    if (context.sender, context.recipient) != (sender.name, recipient.name):
        raise EnvelopeError(
            "context", f"envelope: the keys given are {sender.name}'s and {recipient.name}'s: not its parties'"
        )
    fingerprints = {"sender_keys": sender.fingerprint, "recipient_keys": recipient.fingerprint}
    return canonical(asdict(context) | fingerprints)


def _signed(header: bytes, ciphertext: bytes) -> bytes:
    # Ed25519 reads its message twice. A digest of the long part keeps a large adapter cheap.
    return _SIGNED + len(header).to_bytes(4, "big") + header + hashlib.sha256(ciphertext).digest()


def _split(data: bytes, max_bytes: int) -> tuple[bytes, memoryview]:
    if len(data) > max_bytes:
        raise EnvelopeError("too_large", f"envelope: {len(data)} bytes: at most {max_bytes} are taken")
    try:
        return unframe(_MAGIC, data, _MAX_HEADER_BYTES)
    except ValueError as error:
        raise EnvelopeError("malformed", f"envelope: {error}: not a sealed message of this version") from None


def _context(header: bytes) -> MessageContext:
    try:
        fields = parse_object(header)
        if canonical(fields) != header:
            raise ValueError
        for field in ("sender_keys", "recipient_keys"):
            if not isinstance(fields.pop(field), str):
                raise ValueError
        return MessageContext(**fields)
    except (ValueError, KeyError, TypeError, EnvelopeError):
        raise EnvelopeError(
            "malformed", "envelope: its header is not one of this version: not a sealed message"
        ) from None

"""An Ed25519 signing key in a PKCS#11 token: a smart card, a hardware module, or a program that acts as one.

The token signs, and the key never leaves it. Whoever copies all files cannot sign. This needs the package
`python-pkcs11`, which is imported with the first key.

A process has one session for each token, which all keys there share, because logging out of one session of a process
logs out all of them. Sessions do not survive a fork.
"""

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import TokenError
from common.identity.pin import PinRefused, PinSource

__all__ = ["TokenKey", "TokenPlace"]

_ED25519 = bytes.fromhex("06032b6570")
"""The object identifier 1.3.101.112 in DER, as the parameters of a key pair (RFC 8410)."""
_KEY_BYTES = 32
_PROBE = b"fedfin token probe 1\n"
_WRONG_PIN = ("PinIncorrect", "PinInvalid", "PinLenRange")
_REASONS = {
    "NoSuchToken": "it is not there: insert it, or correct its label",
    "TokenNotPresent": "it is not there: insert it",
    "DeviceRemoved": "it was removed: put it back",
    "MultipleTokensReturned": "several have this label: give each its own",
    "PinLocked": "its PIN is locked: let its security officer set a new one",
    "UserPinNotInitialized": "it has no PIN yet: let its security officer set one",
    "MechanismInvalid": "it has no Ed25519 (CKM_EDDSA): use another token, or keys in files",
    "TokenWriteProtected": "it takes no new key: make an Ed25519 key there by its own tools",
}

_mutex = threading.RLock()
_sessions: dict[tuple[Path, str, bool], Any] = {}
_owner = 0
"""The process that loaded a module."""


@dataclass(frozen=True)
class TokenPlace:
    """The place of a key in a token.

    Attributes:
        module: The PKCS#11 module, a shared library.
        label: Label of the token.
        key: Label of the private key and of the public key beside it.
    """

    module: Path
    label: str
    key: str


class TokenKey:
    """A key in a token, which has signed once already. Several threads may sign with it."""

    def __init__(self, place: TokenPlace, pins: PinSource, public: Ed25519PublicKey) -> None:
        self._place, self._pins, self._public = place, pins, public

    @classmethod
    def open(cls, place: TokenPlace, pins: PinSource) -> Self:
        """Log in, and find the key.

        Raises:
            TokenError: The module, the token or the key is absent or cannot be used, or the PIN is wrong.
            PassphraseError: The file with the PIN cannot be used.
        """
        with _at(place):
            session = _session(place, pins, writable=False)
            if (found := _find(session, place)) is None:
                raise _bad(place, f"it holds no key with the label {place.key}: correct the label of the key")
            return cls._checked(place, pins, *found)

    @classmethod
    def make(cls, place: TokenPlace, pins: PinSource) -> tuple[Self, bool]:
        """Log in, and make the key if the token holds none with that label. Return whether it was made.

        Raises:
            TokenError, PassphraseError: See `open`. Or the token makes no such keys.
        """
        with _at(place):
            session = _session(place, pins, writable=True)
            found = _find(session, place)
            pair = found or _generate(session, place)
            return cls._checked(place, pins, *pair), found is None

    @classmethod
    def _checked(cls, place: TokenPlace, pins: PinSource, private: Any, public: Any) -> Self:
        """Refuse a key that may leave the token, and a public key that does not verify its signatures."""
        from pkcs11 import Attribute
        from pkcs11.exceptions import AttributeTypeInvalid

        for attribute, is_safe in ((Attribute.EXTRACTABLE, False), (Attribute.SENSITIVE, True)):
            stated = is_safe
            with contextlib.suppress(AttributeTypeInvalid):  # a token may not know one of the two
                stated = bool(private[attribute])
            if stated is not is_safe:
                raise _bad(place, f"the key {place.key} may leave it: make one that is sensitive and not extractable")
        key, probe = _raw(place, bytes(public[Attribute.EC_POINT])), _PROBE + secrets.token_bytes(32)
        try:
            key.verify(_sign(private, probe), probe)
        except InvalidSignature:
            raise _bad(place, f"the public key {place.key} does not belong to the private key of that label") from None
        return cls(place, pins, key)

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature, 64 bytes. After a failure, the next call logs in again.

        Raises:
            TokenError: The token did not sign.
        """
        with _at(self._place):
            found = _find(_session(self._place, self._pins, writable=False), self._place)
            if found is None:
                raise _bad(self._place, f"it holds no key with the label {self._place.key} any longer")
            return _sign(found[0], data)

    def public_key(self) -> Ed25519PublicKey:
        """Return the key that verifies the signatures."""
        return self._public


def _session(place: TokenPlace, pins: PinSource, writable: bool) -> Any:
    """Return this process's session with a token, and log in if there is none yet."""
    global _owner
    import pkcs11

    if _owner not in (0, os.getpid()):
        raise _bad(place, "the parent of this process logged in: run this in a process that is not a fork")
    name = (place.module, place.label, writable)
    if name in _sessions:
        return _sessions[name]
    if not place.module.is_file():
        raise TokenError(f"{place.module}: there is no such PKCS#11 module: correct its path")
    _owner = os.getpid()
    try:
        library = pkcs11.lib(str(place.module))
    except pkcs11.PKCS11Error as error:
        if type(error) is pkcs11.PKCS11Error:
            raise TokenError(f"{place.module}: not a PKCS#11 module: correct its path") from None
        why = type(error).__name__
        raise TokenError(f"{place.module}: it does not start ({why}): see its own settings and rights") from None
    token = library.get_token(token_label=place.label)

    def attempt(pin: str) -> Any:
        try:
            return token.open(rw=writable, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            return token.open(rw=writable)
        except pkcs11.PKCS11Error as error:
            if type(error).__name__ in _WRONG_PIN:
                raise PinRefused from None
            raise

    _sessions[name] = pins.log_in(place.label, attempt)
    return _sessions[name]


def _log_out(module: Path) -> None:
    """End all sessions of this process with a module, which then looks for its tokens anew."""
    import pkcs11

    if _owner != os.getpid():
        return
    for name in [name for name in _sessions if name[0] == module]:
        del _sessions[name]
    with contextlib.suppress(pkcs11.PKCS11Error):
        pkcs11.lib(str(module)).finalize()


def _find(session: Any, place: TokenPlace) -> tuple[Any, Any] | None:
    """Return the private and the public key. None if there is no private key with that label."""
    from pkcs11 import Attribute, KeyType, ObjectClass

    found = [
        list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: place.key}))
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
    ]
    if not found[0]:
        return None
    if len(found[0]) > 1 or len(found[1]) > 1:
        raise _bad(place, f"it holds several keys with the label {place.key}: give each its own")
    if not found[1]:
        raise _bad(place, f"it holds no public key beside the private key {place.key}: put it there")
    if any(keys[0].key_type != KeyType.EC_EDWARDS for keys in found):
        raise _bad(place, f"the key {place.key} is no Ed25519 key: name another label")
    return found[0][0], found[1][0]


def _generate(session: Any, place: TokenPlace) -> tuple[Any, Any]:
    from pkcs11 import Attribute, KeyType, Mechanism

    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _ED25519}, local=True)
    forever = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True}
    public, private = curve.generate_keypair(
        store=True, label=place.key, mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, private_template=forever
    )
    return private, public


def _sign(private: Any, data: bytes) -> bytes:
    from pkcs11 import Mechanism

    return bytes(private.sign(data, mechanism=Mechanism.EDDSA))


def _raw(place: TokenPlace, point: bytes) -> Ed25519PublicKey:
    """Return a public key from the point in a token: 32 bytes, or these in an octet string of DER."""
    if len(point) == _KEY_BYTES + 2 and point[:2] == bytes((4, _KEY_BYTES)):
        point = point[2:]
    if len(point) != _KEY_BYTES:
        raise _bad(place, f"the key {place.key} is no Ed25519 key: name another label")
    return Ed25519PublicKey.from_public_bytes(point)


@contextlib.contextmanager
def _at(place: TokenPlace) -> Iterator[None]:
    """Have a token to this thread alone. After an error, which is one line, the next use logs in again."""
    try:
        from pkcs11 import PKCS11Error
    except ImportError:
        raise TokenError("a key in a token needs python-pkcs11: run pip install 'fedfin[token]'") from None
    with _mutex:
        try:
            yield
        except PKCS11Error as error:
            _log_out(place.module)
            name = type(error).__name__
            reason = _REASONS.get(name, f"it failed ({name}): see that it is there and works, then try again")
            raise _bad(place, reason) from None
        except TokenError:
            _log_out(place.module)
            raise


def _bad(place: TokenPlace, why: str) -> TokenError:
    return TokenError(f"token {place.label}: {why}")

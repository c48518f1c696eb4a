"""Enrolment: the request of an institution, and the package that the hub gives back. Two files, carried by people.

    fedfin-institution init  ->  request.json       the institution's public keys (its private keys stay)
    fedfin-hub approve       ->  NAME.package.json  its certificate, the authority, the hub's keys and address

Each is signed with the signing key it carries, which proves possession and that nothing was altered, but not whose it
is. That the two people settle by reading the fingerprint to each other over another channel, such as a telephone.
"""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.canonical import canonical, parse_object
from common.errors import EnrolmentError, EnvelopeError
from common.identity.authority import Certificate, check_name, check_request, is_issued_by, node_key_text
from common.identity.chains import authority_of, check_client_chain, read_authorities
from common.identity.keys import PrivateKeys, PublicKeys
from common.identity.tls import split_address
from common.identity.x509 import key_digest, load_request

__all__ = ["MAX_FILE_BYTES", "EnrolmentPackage", "EnrolmentRequest", "format_fingerprint", "is_fingerprint"]

MAX_FILE_BYTES = 65_536
"""The longest request or package, in bytes. Real ones have less than 10,000."""
_LEAST_DIGITS = 32  # the 128 bits that `format_fingerprint` shows
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class EnrolmentRequest:
    """An institution asks to be enrolled.

    Attributes:
        keys: its public signing and sealing keys, with its name.
        csr: the request (PEM) for its TLS client certificate.
        node_key: its Flower node's public key (PEM, see `pki.node_key_text`).
        chain: a certificate for the key of `csr` by the institution's own authority, with its issuers (PEM). Without
            it the hub's authority certifies the key.
        signature: by `keys` over all of this, in hex.

    Raises:
        EnrolmentError: a part cannot be used, or the signature does not verify.
    """

    keys: PublicKeys
    csr: str
    node_key: str
    chain: str = field(default="", kw_only=True)
    signature: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        what = f"request of {self.keys.name}"
        check_name(self.keys.name)
        check_request(self.csr, self.keys.name)
        if _node_key(self.node_key) != self.node_key:
            raise _bad(what, "its Flower key is not a P-256, P-384 or P-521 key as Flower registers it")
        if self.chain:
            check_client_chain(self.chain, self.keys.name, self.tls_key)
        if self.signature:
            _verify(what, self.keys, self._signed(), self.signature)

    @classmethod
    def make(cls, keys: PrivateKeys, csr: str, node_key: str, chain: str = "") -> Self:
        """A request of the owner of `keys`, signed."""
        bare = cls(keys.public, csr, node_key, chain=chain)
        return replace(bare, signature=keys.signing_key.sign(bare._signed()).hex())

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of all signed fields. The two people compare it."""
        return hashlib.sha256(self._signed()).hexdigest()

    @cached_property
    def machine_keys(self) -> frozenset[str]:
        """Digests of the TLS key and the node key, which must both be new after a revocation."""
        node_key = serialization.load_pem_public_key(self.node_key.encode())
        return frozenset({self.tls_key, key_digest(node_key)})

    @cached_property
    def tls_key(self) -> str:
        """Digest of the key that its certificates are for."""
        return key_digest(load_request(self.csr)[1])

    @property
    def own_authority(self) -> str:
        """The authority (PEM) that the institution brings. Empty if it leaves its certificate to the hub."""
        return authority_of(self.chain) if self.chain else ""

    def has_keys_of(self, other: "EnrolmentRequest") -> bool:
        """Whether both are of one institution with the same keys of every kind. Their certificates may differ."""
        return (self.keys, self.tls_key, self.node_key) == (other.keys, other.tls_key, other.node_key)

    def to_json(self) -> str:
        """Return canonical JSON. Equal requests give equal text."""
        return canonical(self._fields() | {"signature": self.signature}).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the text that `to_json` wrote, and nothing else. White space around it is ignored.

        Raises:
            EnrolmentError: any other text, or its signature does not verify.
        """
        fields = _read(text, "request", {"keys", "csr", "node_key", "signature"}, "chain")
        return cls(_public(fields.pop("keys"), "request"), **fields)

    def _fields(self) -> dict[str, Any]:
        return {
            "format": "fedfin-request-1",
            "keys": parse_object(self.keys.to_json()),
            "csr": self.csr,
            "node_key": self.node_key,
            **({"chain": self.chain} if self.chain else {}),
        }

    def _signed(self) -> bytes:
        return b"fedfin enrolment request 1\n" + canonical(self._fields())


@dataclass(frozen=True)
class EnrolmentPackage:
    """The hub lets an institution in.

    Attributes:
        institution: its name. `request_fingerprint`: the fingerprint of the request that this package answers.
        certificate: its TLS client certificate (PEM), issued by `authority` (PEM), or else the chain of the request.
        hub: the public keys that assignments are signed with and answers sealed to.
        address: where the hub's gateway listens, as host:port.
        app_sha256: SHA-256, in hex, of the app bundle that this hub runs. The institution builds its own and compares.
        server_authority: authorities (PEM), beside `authority`, whose certificates the hub's gateway may show.
        signature: by `hub` over all of this, in hex.

    Raises:
        EnrolmentError: a part cannot be used or does not fit the others, or the signature does not verify.
    """

    institution: str
    request_fingerprint: str
    certificate: str
    authority: str
    hub: PublicKeys
    address: str
    app_sha256: str
    server_authority: str = field(default="", kw_only=True)
    signature: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_name(self.institution)
        what = f"package for {self.institution}"
        for name in ("request_fingerprint", "app_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise _bad(what, f"{name} is not a SHA-256 digest")
        certificate = Certificate.read(self.certificate)
        is_own = authority_of(self.certificate)  # `check_answers` compares it with the request
        if certificate.name != self.institution or not (is_own or is_issued_by(certificate, self.authority)):
            raise _bad(what, "its certificate is another's, or not of its authority: ask the hub for it again")
        split_address(self.address)
        if self.server_authority:
            read_authorities(self.server_authority)
        if self.signature:
            _verify(what, self.hub, self._signed(), self.signature)

    @classmethod
    def make(
        cls,
        hub: PrivateKeys,
        request: EnrolmentRequest,
        certificate: str,
        authority: str,
        address: str,
        app_sha256: str,
        server_authority: str = "",
    ) -> Self:
        """The hub's answer to `request`, signed."""
        bare = cls(
            request.keys.name, request.fingerprint, certificate, authority, hub.public, address, app_sha256,
            server_authority=server_authority,
        )  # fmt: skip
        return replace(bare, signature=hub.signing_key.sign(bare._signed()).hex())

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of all signed fields. The two people compare it."""
        return hashlib.sha256(self._signed()).hexdigest()

    def check_answers(self, request: EnrolmentRequest) -> None:
        """Whether this package is for exactly that request, and its certificate for that request's TLS key.

        Raises:
            EnrolmentError: it is not.
        """
        if self.institution != request.keys.name or self.request_fingerprint != request.fingerprint:
            raise _bad(f"package for {self.institution}", "it answers another request: send the hub yours again")
        if request.chain and self.certificate != request.chain:
            raise _bad(f"package for {self.institution}", "its certificate is not the request's: ask for it again")
        if not request.chain and not is_issued_by(Certificate.read(self.certificate), self.authority):
            raise _bad(f"package for {self.institution}", "its certificate is not of the hub: ask for it again")

    def to_json(self) -> str:
        """Return canonical JSON. Equal packages give equal text."""
        return canonical(self._fields() | {"signature": self.signature}).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the text that `to_json` wrote, and nothing else. White space around it is ignored.

        Raises:
            EnrolmentError: any other text, or its signature does not verify.
        """
        keys = {"institution", "request_fingerprint", "certificate", "authority", "hub", "address", "app_sha256"}
        fields = _read(text, "package", keys | {"signature"}, "server_authority")
        return cls(hub=_public(fields.pop("hub"), "package"), **fields)

    def _fields(self) -> dict[str, Any]:
        names = ("institution", "request_fingerprint", "certificate", "authority", "address", "app_sha256")
        texts = {name: getattr(self, name) for name in names}
        if self.server_authority:
            texts["server_authority"] = self.server_authority
        return {"format": "fedfin-package-1", "hub": parse_object(self.hub.to_json()), **texts}

    def _signed(self) -> bytes:
        return b"fedfin enrolment package 1\n" + canonical(self._fields())


def format_fingerprint(fingerprint: str) -> str:
    """The first 128 bits of a fingerprint in groups of four, for reading aloud: "1f3a 90bc ..."."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, 32, 4))


def is_fingerprint(fingerprint: str, heard: str) -> bool:
    """Whether `heard`, as a person typed it, is the fingerprint or its beginning of at least 128 bits.

    Spaces and dashes between groups are ignored, also those that a text editor puts in place of "-".

    >>> is_fingerprint("1f3a90bc" * 8, "1F3A\u201390BC" * 4)
    True
    """
    digits = "".join(mark for mark in heard.lower() if not (mark.isspace() or unicodedata.category(mark) == "Pd"))
    if len(digits) < _LEAST_DIGITS or not digits.isascii():
        return False
    return secrets.compare_digest(fingerprint[: len(digits)], digits)


def _read(text: str | bytes, kind: str, keys: set[str], optional: str) -> dict[str, Any]:
    """Return the fields of a file. Each is a text, except for the keys. Raise EnrolmentError for anything else.

    The field `optional` may be absent, but not empty.
    """
    what = f"not a {kind} of this version: ask for it again"
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError
        fields = parse_object(text)
    except ValueError:
        raise _bad(kind, what) from None
    if fields.pop("format", None) != f"fedfin-{kind}-1" or set(fields) - {optional} != keys:
        raise _bad(kind, what)
    if not all(isinstance(value, str) for name, value in fields.items() if name not in ("keys", "hub")):
        raise _bad(kind, what)
    if fields.get(optional) == "":
        raise _bad(kind, what)
    if not fields["signature"]:
        raise _bad(kind, "it is not signed: ask for it again")
    return fields


def _public(value: object, kind: str) -> PublicKeys:
    try:
        if not isinstance(value, Mapping):
            raise ValueError
        return PublicKeys.from_json(canonical(value).decode())
    except (ValueError, EnvelopeError):
        raise _bad(kind, "it holds no usable public keys: ask for it again") from None


def _verify(what: str, keys: PublicKeys, signed: bytes, signature: str) -> None:
    try:
        raw = bytes.fromhex(signature)
        if raw.hex() != signature:
            raise ValueError
        keys.signing_key.verify(raw, signed)
    except (ValueError, InvalidSignature):
        raise _bad(what, "its signature does not verify: it was altered on the way, ask for it again") from None


def _node_key(text: str) -> str | None:
    """Return the canonical spelling of a node key, or None if the value is no node key."""
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    named = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1")
    return node_key_text(key) if named else None  # type: ignore[arg-type]  # an EC key, see above


def _bad(what: str, why: str) -> EnrolmentError:
    return EnrolmentError(f"{what}: {why}")

"""The hub's certificate authority, and the certificates that every TLS connection of a federation stands on.

A private key is made where it is used and never travels. A signed request (CSR) goes to the authority. The
authority certifies the name that the hub approved, whatever the request says of itself. Leaves are P-256, the
authority is P-384.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.canonical import is_name
from common.errors import EnrolmentError, PassphraseError
from common.files import write_atomic
from common.identity.x509 import (
    UNREADABLE,
    certificate_builder,
    common_name,
    general_name,
    key_digest,
    key_usage,
    load_certificate,
    load_key,
    load_request,
    private_pem,
    read_whole,
)

__all__ = [
    "MAX_NAME",
    "WARN_DAYS",
    "Authority",
    "Certificate",
    "check_addresses",
    "check_name",
    "check_request",
    "is_issued_by",
    "new_key_and_request",
    "node_key_text",
]

MAX_NAME = 64
"""A common name in X.509 has at most this many characters."""
AUTHORITY_DAYS = 3650
WARN_DAYS = 30
"""Days before its expiry from which a certificate is reported, unless `hub.toml` gives another number."""
_KEY, _CERTIFICATE = "ca.key", "ca.pem"


@dataclass(frozen=True)
class Certificate:
    """Content of a certificate. `serial` is hex, both times are UTC. `key` is the digest of its public key.

    Raises (in `read`):
        EnrolmentError: it is not one PEM certificate with one common name.
    """

    name: str
    serial: str
    not_before: datetime
    not_after: datetime
    key: str = field(repr=False)
    pem: str = field(repr=False)

    @classmethod
    def read(cls, pem: str | bytes) -> Self:
        """Parse one certificate without verifying it. See `Authority.issued`."""
        return cls._of(load_certificate(pem))

    @classmethod
    def of_der(cls, der: bytes) -> Self:
        """The same from DER, as a TLS connection gives its peer's. Its name can stand in a line of a log."""
        try:
            certificate = cls._of(read_whole(x509.load_der_x509_certificate(der)))
        except UNREADABLE:
            raise _bad("certificate", "not an X.509 certificate") from None
        check_name(certificate.name)
        return certificate

    @classmethod
    def _of(cls, certificate: x509.Certificate) -> Self:
        return cls(
            name=common_name(certificate.subject),
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key=key_digest(certificate.public_key()),
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        )

    def days_left(self, now: datetime | None = None) -> float:
        """Return the days until it expires. The number is negative afterwards."""
        return (self.not_after - (now or datetime.now(UTC))).total_seconds() / 86_400

    def expiry(self, warn_days: float, now: datetime | None = None) -> str:
        """Return "expires in N days" from `warn_days` before the end, "has expired" after it, and "" before."""
        left = self.days_left(now)
        if left > warn_days:
            return ""
        return f"expires in {left:.0f} days" if left > 0 else "has expired"


@dataclass(frozen=True)
class Authority:
    """The certificate authority of one hub. Others trust the certificate `pem`. The key stays in its directory."""

    pem: str
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, directory: Path, name: str, secret: bytes | None = None) -> Self:
        """A new authority in `directory` (0700): `ca.key` (0600, encrypted if there is a secret) and `ca.pem`.

        Raises:
            EnrolmentError: there is one already, or it cannot be written.
        """
        if (directory / _KEY).exists():
            raise _bad(str(directory / _KEY), "an authority is there already: choose another directory")
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = key_usage(key_cert_sign=True, crl_sign=True)
        lifetime = timedelta(days=AUTHORITY_DAYS)
        builder = certificate_builder(subject, subject, key.public_key(), key.public_key(), lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA384())
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            write_atomic(directory / _KEY, private_pem(key, secret), mode=0o600)
            write_atomic(directory / _CERTIFICATE, pem)
        except OSError as error:
            raise _bad(str(directory), f"cannot be written ({error.strerror})") from None
        return cls(pem.decode(), key)

    @classmethod
    def load(cls, directory: Path, secret: bytes | None = None) -> Self:
        """Read the authority that `create` wrote.

        Raises:
            EnrolmentError: absent, damaged, or readable by others than its owner.
            PassphraseError: encrypted, and the secret is missing or another one.
        """
        path = directory / _KEY
        try:
            if path.stat().st_mode & 0o077:
                raise _bad(str(path), "others may read it: run chmod 600 on it")
            key = load_key(path.read_bytes(), secret)
            pem = (directory / _CERTIFICATE).read_text(encoding="ascii")
        except OSError as error:
            raise _bad(str(path), f"cannot be read ({error.strerror}): restore it from its backup") from None
        except PassphraseError as error:
            raise PassphraseError(f"{path}: {error}") from None
        except ValueError:
            raise _bad(str(path), "damaged: restore it from its backup") from None
        if load_certificate(pem).public_key() != key.public_key():
            raise _bad(str(path), f"not the key of {_CERTIFICATE}: restore both from their backup")
        return cls(pem, key)

    def issue_server(self, request: str | bytes, addresses: Sequence[str], lifetime: timedelta) -> str:
        """A server certificate (PEM) for the key in `request`, valid for `addresses`: host names and IP addresses.

        Raises:
            EnrolmentError: no address, one that cannot be one, or a request that does not verify.
        """
        check_addresses(addresses)
        names = x509.SubjectAlternativeName([general_name(address) for address in addresses])
        return self._issue(request, addresses[0][:MAX_NAME], lifetime, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def issue_client(self, request: str | bytes, name: str, lifetime: timedelta) -> str:
        """A client certificate (PEM) for institution `name` and the key in `request`.

        Raises:
            EnrolmentError: a name that cannot be one, or a request that does not verify.
        """
        check_name(name)
        return self._issue(request, name, lifetime, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def issued(self, certificate: Certificate) -> bool:
        """Whether this authority signed it."""
        return is_issued_by(certificate, self.pem)

    def _issue(
        self,
        request: str | bytes,
        name: str,
        lifetime: timedelta,
        purpose: x509.ObjectIdentifier,
        addresses: x509.SubjectAlternativeName | None,
    ) -> str:
        _, key = load_request(request)
        authority = load_certificate(self.pem)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = certificate_builder(subject, authority.subject, key, self._key.public_key(), lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(key_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if addresses is not None:
            builder = builder.add_extension(addresses, critical=False)
        return builder.sign(self._key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def new_key_and_request(name: str, secret: bytes | None = None) -> tuple[bytes, str]:
    """A fresh P-256 key (PEM, to be kept 0600) and the request for its certificate (PEM).

    Args:
        name: common name of the request.
        secret: encrypts the key, if given.

    Raises:
        EnrolmentError: a name that no certificate can carry.
    """
    check_name(name)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return private_pem(key, secret), request.public_bytes(serialization.Encoding.PEM).decode()


def check_request(request: str | bytes, name: str) -> None:
    """Whether a certificate request is whole, made with its own key, and for `name`.

    Raises:
        EnrolmentError: it is not.
    """
    check_name(name)
    if common_name(load_request(request)[0]) != name:
        raise _bad(f"certificate request of {name}", "made for another name: make it again")


def check_name(name: str) -> None:
    """Whether `name` can stand in a certificate, a path and a message.

    Raises:
        EnrolmentError: it cannot.
    """
    if not is_name(name) or len(name) > MAX_NAME:
        raise _bad("name", f"use at most {MAX_NAME} letters, digits, ' ', '_', '.' or '-', a letter or digit first")


def check_addresses(addresses: Sequence[str]) -> None:
    """Whether a server certificate can be valid for these: host names and IP addresses, at least one.

    Raises:
        EnrolmentError: it cannot.
    """
    if not addresses:
        raise _bad("server certificate", "no name: give the names or addresses that institutions will dial")
    for address in addresses:
        general_name(address)


def is_issued_by(certificate: Certificate, authority_pem: str | bytes) -> bool:
    """Whether the authority's key signed this certificate."""
    try:
        load_certificate(certificate.pem).verify_directly_issued_by(load_certificate(authority_pem))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def node_key_text(key: ec.EllipticCurvePublicKey) -> str:
    """A Flower node's public key as the text that enrolment carries and Flower registers (PEM, SPKI)."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, spki).decode()


def _bad(what: str, why: str) -> EnrolmentError:
    return EnrolmentError(f"{what}: {why}")

"""The parts that certificates and their requests are made of, and the reading of foreign ones."""

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.x509.oid import NameOID

from common.errors import EnrolmentError, PassphraseError

__all__ = [
    "UNREADABLE",
    "certificate_builder",
    "common_name",
    "general_name",
    "key_digest",
    "key_usage",
    "load_certificate",
    "load_key",
    "load_request",
    "private_pem",
    "read_whole",
    "server_request",
]

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""The errors of `cryptography` for a certificate or request that it cannot read. They have no common class."""
_MAX_PEM = 16_384
# A clock that is up to five minutes behind must not refuse a certificate made just now.
_CLOCK_SLACK = timedelta(minutes=10)


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    """A certificate to be: for `key`, by the owner of `issuer_key`, valid from now on. It has no purpose yet."""
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _CLOCK_SLACK).not_valid_after(now + lifetime)
    return builder.add_extension(identifier, critical=False).add_extension(authority, critical=False)


def key_usage(**given: bool) -> x509.KeyUsage:
    """Return a `cryptography.x509.KeyUsage` with the named uses and no other."""
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    flags: Mapping[str, bool] = dict.fromkeys(every, False) | given
    return x509.KeyUsage(**flags)


def general_name(text: str) -> x509.GeneralName:
    """A host name or an IP address as certificates carry it.

    Raises:
        EnrolmentError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.split(".")
    plain = text.isascii() and len(text) <= 253 and all(labels)
    if not plain or not all(part.replace("-", "").isalnum() for part in labels):
        raise EnrolmentError(f"server certificate: {text[:80]!r} is neither a host name nor an IP address")
    return x509.DNSName(text)


def server_request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> str:
    """A request (PEM) for a server certificate that is valid for `names`: host names and IP addresses.

    Raises:
        EnrolmentError: one of them is neither.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def load_request(request: str | bytes) -> tuple[x509.Name, ec.EllipticCurvePublicKey]:
    """Subject and key of a request that verifies.

    Raises:
        EnrolmentError: damaged, not signed by its own key, or on another curve than P-256 and P-384.
    """
    try:
        csr = x509.load_pem_x509_csr(_pem_bytes(request))
        key = _read_parts(csr)
        if not csr.is_signature_valid:
            raise ValueError
    except UNREADABLE:
        raise EnrolmentError("certificate request: damaged, or not made with its own key: make it again") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1"):
        raise EnrolmentError("certificate request: its key is not on the curves P-256 or P-384: make it again")
    return csr.subject, key


def load_certificate(pem: str | bytes) -> x509.Certificate:
    """Parse one certificate without verifying it.

    Raises:
        EnrolmentError: not an X.509 certificate in PEM, or one of more than 16 KiB.
    """
    try:
        return read_whole(x509.load_pem_x509_certificate(_pem_bytes(pem)))
    except UNREADABLE:
        raise EnrolmentError("certificate: not an X.509 certificate in PEM") from None


def read_whole(certificate: x509.Certificate) -> x509.Certificate:
    """Return the certificate after its lazy parts were read once.

    Raises:
        UNREADABLE: a part is damaged or of an unknown kind, or the serial number is not positive (RFC 5280, 4.1.2.2).
    """
    _read_parts(certificate)
    if certificate.serial_number <= 0:
        raise ValueError("serial number")
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def _read_parts(found: x509.Certificate | x509.CertificateSigningRequest) -> PublicKeyTypes | CertificatePublicKeyTypes:
    """Read the subject and the extensions, and return the public key."""
    _ = found.subject, found.extensions
    return found.public_key()


def _pem_bytes(pem: str | bytes) -> bytes:
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > _MAX_PEM:
        raise ValueError("too long")
    return data


def key_digest(key: PublicKeyTypes) -> str:
    """Return the SHA-256, in hex, of a public key (DER, SPKI). Equal keys give equal digests."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def common_name(subject: x509.Name) -> str:
    """The one common name of a subject.

    Raises:
        EnrolmentError: it has none, or several.
    """
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str):
        raise EnrolmentError("certificate: it has not exactly one common name")
    return found[0].value


def private_pem(key: ec.EllipticCurvePrivateKey, secret: bytes | None = None) -> bytes:
    """A private key as PKCS #8, to be kept 0600. It is encrypted if there is a secret.

    The password of the file is the secret in hex. A passphrase would not do: OpenSSL's default, which `cryptography`
    uses here, stretches a password by 2,048 rounds of PBKDF2, so it must not be one that can be guessed.
    """
    scheme = serialization.BestAvailableEncryption(secret.hex().encode()) if secret else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme)


def load_key(pem: bytes, secret: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a private key that `private_pem` wrote, encrypted or not.

    Raises:
        PassphraseError: It is encrypted, and the secret is missing or another one.
        ValueError: It is damaged, or no key on a curve.
    """
    encrypted = b"ENCRYPTED" in pem.partition(b"\n")[0]
    if encrypted and secret is None:
        raise PassphraseError("encrypted, and passphrase.json beside the keys is absent: restore it from its backup")
    try:
        key = serialization.load_pem_private_key(pem, secret.hex().encode() if encrypted and secret else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise PassphraseError("damaged, or of another passphrase.json: restore both from their backup") from None
        raise ValueError("damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key on a curve")
    return key

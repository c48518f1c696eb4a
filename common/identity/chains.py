"""Certificates of an authority outside the federation, such as a bank's own: their chains, and the checks of them.

A chain is PEM text: the certificate of a key first, then each issuer of the one before. Its last certificate is the
authority, which may be a root or an issuing authority below it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.errors import EnrolmentError
from common.identity.x509 import UNREADABLE, common_name, general_name, key_digest, read_whole

__all__ = [
    "authority_of",
    "certificates_of",
    "check_client_chain",
    "check_dates",
    "check_server_chain",
    "read_authorities",
    "subject_of",
]

_MOST_BYTES = 32_768
_MOST_CERTIFICATES = 6


def authority_of(chain: str | bytes) -> str:
    """Return the authority of a chain (PEM). It is an empty text for a single certificate, which is no chain.

    Raises:
        EnrolmentError: The text has no certificate, too many, or a damaged one.
    """
    certificates = _read(chain)
    return _pem(certificates[-1]) if len(certificates) > 1 else ""


def certificates_of(pem: str | bytes) -> str:
    """Return the certificates in a text (PEM) and nothing else that it holds, such as a private key.

    Raises:
        EnrolmentError: The text has no certificate, too many, or a damaged one.
    """
    return "".join(map(_pem, _read(pem)))


def subject_of(authority: str) -> str:
    """Return the distinguished name of an authority, for people to compare. Raises EnrolmentError."""
    return _read(authority)[0].subject.rfc4514_string()


def read_authorities(pem: str | bytes) -> str:
    """Return the certificates of authorities, one after the other, and nothing else that the text holds.

    Raises:
        EnrolmentError: One of them is no certificate of an authority.
    """
    certificates = _read(pem)
    for certificate in certificates:
        _check_authority(certificate)
    return "".join(map(_pem, certificates))


def check_client_chain(chain: str | bytes, name: str, key: str) -> None:
    """Check that an institution can connect with the first certificate of a chain, apart from its dates.

    Args:
        chain: The chain (PEM), with the authority.
        name: Name of the institution, which must be the common name.
        key: Digest of the key that the certificate must be for (see `common.identity.x509.key_digest`).

    Raises:
        EnrolmentError: It cannot, with the reason.
    """
    certificates = _read(chain)
    if len(certificates) < 2:
        raise _bad("it holds one certificate: add those of its issuers, up to the authority")
    _check_links(certificates, certificates[-1:])
    if common_name(certificates[0].subject) != name:
        raise _bad(f"its common name is not {name}: have it issued for the name of the institution")
    _check_leaf(certificates[0], key, ExtendedKeyUsageOID.CLIENT_AUTH)


def check_dates(chain: str | bytes) -> None:
    """Check that every certificate of a chain is valid now.

    A file that was kept is read without this check: it must stay readable when a certificate in it has expired.

    Raises:
        EnrolmentError: One is not valid.
    """
    for certificate in _read(chain):
        if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            raise _bad(f"{_name(certificate)} has expired, or is not valid yet: renew it, or set the clock")


def check_server_chain(chain: str | bytes, names: Sequence[str], key: str, authorities: str) -> None:
    """Check that institutions that trust `authorities` accept the first certificate of a chain as the hub's, apart from
    its dates.

    Args:
        chain: The chain (PEM). The authority may be left out.
        names: Host names and IP addresses that institutions connect to.
        key: Digest of the key that the certificate must be for.
        authorities: Certificates of the trusted authorities (PEM).

    Raises:
        EnrolmentError: They do not, with the reason.
    """
    certificates = _read(chain)
    _check_links(certificates, _read(authorities))
    _check_leaf(certificates[0], key, ExtendedKeyUsageOID.SERVER_AUTH)
    try:
        held = set(certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        held = set()
    missing = [name for name in names if general_name(name) not in held]
    if missing:
        raise _bad(f"it is not valid for {', '.join(missing)}: have it issued for all of gateway.names")


def _read(pem: str | bytes) -> list[x509.Certificate]:
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        found = x509.load_pem_x509_certificates(data) if len(data) <= _MOST_BYTES else []
        certificates = [read_whole(each) for each in found]
    except UNREADABLE:
        certificates = []
    if not 1 <= len(certificates) <= _MOST_CERTIFICATES:
        raise _bad(f"it is not a text of 1 to {_MOST_CERTIFICATES} X.509 certificates in PEM")
    return certificates


def _check_links(certificates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> None:
    """Check that each certificate was issued by the next one, and the last one by an authority, or is an authority."""
    for certificate, issuer in pairwise(certificates):
        if not _is_issued_by(certificate, issuer):
            raise _bad(f"{_name(certificate)} was not issued by the next one, {_name(issuer)}: correct their order")
        _check_authority(issuer)
    last = certificates[-1]
    if last not in authorities and not any(_is_issued_by(last, each) for each in authorities):
        raise _bad(f"{_name(last)} was not issued by a trusted authority: add the certificates in between")


def _check_authority(certificate: x509.Certificate) -> None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise _bad(f"{_name(certificate)} is no certificate of an authority: give the authority's own")


def _check_leaf(certificate: x509.Certificate, key: str, purpose: x509.ObjectIdentifier) -> None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        found = None
    if key_digest(certificate.public_key()) != key:
        raise _bad("it is for another key: have the certificate request of this key signed")
    if found is not None and purpose not in found:
        raise _bad("its extended key usage does not allow this use: have it issued for TLS client or server")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string()[:80])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _bad(why: str) -> EnrolmentError:
    return EnrolmentError(f"certificate of an outside authority: {why}")

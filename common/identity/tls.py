"""TLS 1.3 between the hub's gateway and an institution. Both ends show a certificate of the hub's authority."""

import re
import ssl
from pathlib import Path

from common.errors import EnrolmentError, PassphraseError

__all__ = ["client_context", "load_chain", "server_context", "split_address"]


_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[1-9][0-9]{0,4})")


def server_context(certificate: Path, key: Path, authority: Path, secret: bytes | None = None) -> ssl.SSLContext:
    """TLS 1.3 for the hub's door: whoever connects must show a certificate of `authority`.

    Args:
        secret: opens `key` if it is encrypted.

    Raises:
        EnrolmentError: a file is absent, unreadable or does not fit the others.
        PassphraseError: the key is encrypted, and there is no secret.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, authority, secret)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: Path, key: Path, authority: Path, secret: bytes | None = None) -> ssl.SSLContext:
    """TLS 1.3 for an institution: the hub must show a certificate of `authority` for the address dialled.

    Args:
        secret: opens `key` if it is encrypted.

    Raises:
        EnrolmentError: a file is absent, unreadable or does not fit the others.
        PassphraseError: the key is encrypted, and there is no secret.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, authority, secret)


def load_chain(context: ssl.SSLContext, certificate: Path, key: Path, secret: bytes | None) -> None:
    """Let a context use a certificate and its key. It never asks for a password.

    Raises:
        PassphraseError: the key is encrypted, and there is no secret.
        OSError: a file is absent, unreadable, or does not fit the other (`ssl.SSLError`).
    """

    def password() -> bytes:
        if secret is None:
            raise PassphraseError(f"{key}: encrypted, and this process was not given its passphrase")
        return secret.hex().encode()

    context.load_cert_chain(certificate, key, password)


def _context(protocol: int, certificate: Path, key: Path, authority: Path, secret: bytes | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        load_chain(context, certificate, key, secret)
        context.load_verify_locations(authority)
    except ssl.SSLError:
        raise EnrolmentError(f"{certificate}: does not fit {key.name} and {authority.name}: renew it") from None
    except OSError as error:
        raise EnrolmentError(f"{certificate.parent}: {error.filename or certificate.name}: {error.strerror}") from None
    return context


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6]:port".

    Raises:
        EnrolmentError: it is neither.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65_535:
        raise EnrolmentError("hub address: write it as host:port, as in hub.example.org:8443")
    return found["host"].strip("[]"), int(found["port"])

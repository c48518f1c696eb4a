"""The identity of one start: a key and certificate that processes of one user prove themselves with on loopback.

All users of a machine share loopback. So the servers there take only clients with this certificate, and the clients
take only a server with it. The key is readable by its owner alone, and new at every start.
"""

import ipaddress
import ssl
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.files import write_atomic
from common.identity.tls import client_context, server_context
from common.identity.x509 import certificate_builder, key_usage, private_pem

__all__ = ["LoopbackIdentity"]

_LIFETIME = timedelta(days=825)
"""Longer than any process runs without a restart of the machine."""


class LoopbackIdentity:
    """A self-signed certificate and its key. It is its own authority, so nobody else's certificate counts.

    Args:
        directory: Directory with `loopback.pem` and `loopback.key`, of mode 0700.
    """

    def __init__(self, directory: Path) -> None:
        self.certificate, self._key = directory / "loopback.pem", directory / "loopback.key"

    def renew(self) -> None:
        """Write a new key (0600) and certificate. Raises OSError."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = certificate_builder(subject, subject, key.public_key(), key.public_key(), _LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(key_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        write_atomic(self._key, private_pem(key), mode=0o600)
        write_atomic(self.certificate, pem)

    def server(self) -> ssl.SSLContext:
        """Return the context of a server that takes this identity's clients alone. Raises EnrolmentError."""
        return server_context(self.certificate, self._key, self.certificate)

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that takes this identity's servers alone. Raises EnrolmentError."""
        return client_context(self.certificate, self._key, self.certificate)

"""An authority outside the federation, as a bank has it: a root, an issuing authority below it, and certificates."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["OutsideAuthority"]

_DAY = timedelta(days=1)


class OutsideAuthority:
    """Issues certificates for the requests that it is sent, with RSA keys of its own.

    Args:
        name: Begins the common names of root and issuing authority.
    """

    def __init__(self, name: str) -> None:
        self._root_key, self._key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        root, issuing = _subject(f"{name} root"), _subject(f"{name} issuing")
        self._root = self._authority(root, root, self._root_key.public_key())
        self._issuing = self._authority(issuing, root, self._key.public_key())

    @property
    def root(self) -> str:
        return _pem(self._root)

    @property
    def issuing(self) -> str:
        return _pem(self._issuing)

    def issue(
        self,
        csr: str,
        *,
        name: str | None = None,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        days: int = 30,
        up_to: str = "root",
        serial: int | None = None,
    ) -> str:
        """Return the chain for a request: its certificate, the issuing authority, and the root if `up_to` says so."""
        request = x509.load_pem_x509_csr(csr.encode())
        subject = request.subject if name is None else _subject(name)
        builder = self._builder(subject, self._issuing.subject, request.public_key(), days, serial)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        leaf = _pem(builder.sign(self._key, hashes.SHA256()))
        return leaf + {"leaf": "", "issuing": self.issuing, "root": self.issuing + self.root}[up_to]

    def _authority(self, subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey) -> x509.Certificate:
        builder = self._builder(subject, issuer, key, 3650)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(self._root_key, hashes.SHA256())

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, key: object, days: int, serial: int | None = None
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(serial or x509.random_serial_number())
        return builder.not_valid_before(min(now, now + days * _DAY) - _DAY).not_valid_after(now + days * _DAY)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

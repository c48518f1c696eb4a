"""The files of the two private keys that the node uses: for TLS, and for Flower. Both are encrypted by one secret."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key

from client.institution.paths import InstitutionPaths
from client.institution.sharing import secret_mode
from common.files import write_atomic
from common.identity.x509 import private_pem

__all__ = ["load_node_key", "write_node_key", "write_tls_key"]


def write_tls_key(home: InstitutionPaths, key: ec.EllipticCurvePrivateKey, secret: bytes | None) -> None:
    """Write the key of the client certificate, encrypted if there is a secret."""
    write_atomic(home.tls_key_path, private_pem(key, secret), mode=secret_mode(home.tls))


def write_node_key(home: InstitutionPaths, key: ec.EllipticCurvePrivateKey, secret: bytes | None) -> None:
    """Write the key of the Flower node: in the format that Flower reads, or as PKCS #8 encrypted by the secret."""
    openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    data = openssh if secret is None else private_pem(key, secret)
    write_atomic(home.node_key_path, data, mode=secret_mode(home.node_key_path.parent))


def load_node_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted file that `write_node_key` wrote. Raises ValueError if it is damaged."""
    try:
        key = load_ssh_private_key(data, None)
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError("damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key on a curve")
    return key

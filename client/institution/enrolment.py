"""The institution's side of enrolment: make a request, hold the hub's answer against it, and only then keep it."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificate

from client.institution.directory import InstitutionDirectory
from client.institution.node_keys import write_node_key
from client.institution.paths import Slot
from client.institution.sharing import directory_mode, secret_mode, share_with_node
from common.config.token import TokenSettings
from common.errors import ConfigurationError, EnrolmentError
from common.files import read_limited, write_atomic
from common.flower.bundle import bundle_sha256
from common.identity.authority import WARN_DAYS, check_name, new_key_and_request, node_key_text
from common.identity.chains import authority_of, certificates_of, check_dates
from common.identity.enrolment import MAX_FILE_BYTES, EnrolmentPackage, EnrolmentRequest, is_fingerprint
from common.identity.x509 import load_key

__all__ = ["accept", "bring_certificate", "expiring", "is_known", "make_request", "read_chain", "read_package"]


def make_request(
    directory: Path,
    name: str,
    renew: bool = False,
    node_group: str | None = None,
    passphrase: bytes | None = None,
    token: TokenSettings | None = None,
) -> EnrolmentRequest:
    """Lay out an institution's directory (see `Home.create`) with keys of every kind, and its signed request.

    After an interruption it continues. The private keys never leave the directory.

    Args:
        renew: for an institution that is there already: new TLS and node keys and a new request. Its signing and
            sealing keys stay, and with them its ledger.
        node_group: the group of the user that the node runs as, if it is another user than the agent's.
        passphrase: for a new institution: encrypts all private keys.
        token: for a new institution: the place of its signing key, if that is in a token.

    Raises:
        ConfigurationError: it holds a complete institution already, or another one. Or the group cannot be used.
        EnrolmentError: a name that no certificate can carry.
        EnvelopeError: the keys cannot be written or read.
        PassphraseError: the keys are encrypted, and the passphrase is missing or wrong.
        TokenError: the signing key is in a token that cannot be used.
    """
    check_name(name)
    home = InstitutionDirectory(directory)
    if not renew and (home.request_path.exists() or not home.settings_path.exists()):
        home = InstitutionDirectory.create(directory, name, passphrase, token)
    keys = home.keys()
    if keys.name != name:
        raise ConfigurationError(f"{directory}: it holds institution {keys.name} already: choose another directory")
    node = home.node_key_path.parent
    for each in (home.run, home.state, home.node_state, home.tls, node):  # mounted one by one if the node runs apart
        each.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(directory_mode(home))
    secret = home.secret(Slot.NODE)
    tls_key, csr = new_key_and_request(name, secret)
    node_key = ec.generate_private_key(ec.SECP384R1())
    write_atomic(home.tls_key_path, tls_key, mode=secret_mode(home.tls))
    write_node_key(home, node_key, secret)
    if node_group is not None:
        share_with_node(home, node_group)
    request = EnrolmentRequest.make(keys, csr, node_key_text(node_key.public_key()))
    write_atomic(home.csr_path, csr.encode())
    # Written last: a directory with a request is a complete one.
    write_atomic(home.request_path, request.to_json().encode() + b"\n")
    return request


def bring_certificate(home: InstitutionDirectory, chain: str) -> tuple[EnrolmentRequest, bool]:
    """Put a certificate of the institution's own authority into its request, and use it if the hub needs no notice.

    The hub needs none if it has approved the authority: then the institution has joined with a certificate of it.

    Args:
        home: The institution's directory.
        chain: The certificate for the key of `client.csr`, with its issuers up to the authority (PEM).

    Returns:
        The new request, and whether the certificate is in use.

    Raises:
        EnrolmentError: It cannot be used. Nothing was changed.
        PassphraseError: The keys are encrypted, and the passphrase is missing or wrong.
    """
    chain = certificates_of(chain)  # The request leaves the institution, and the file may hold the private key too.
    before = EnrolmentRequest.from_json(home.request_path.read_bytes())
    request = EnrolmentRequest.make(home.keys(), before.csr, before.node_key, chain)
    check_dates(chain)
    joined = home.package_path.exists() and home.package().request_fingerprint == before.fingerprint
    is_approved = joined and before.own_authority == request.own_authority
    if is_approved:
        write_atomic(home.tls / "client.pem", chain.encode())
        return before, True
    write_atomic(home.request_path, request.to_json().encode() + b"\n")
    return request, False


def read_chain(path: Path) -> str:
    """Return the text of a file of certificates.

    Raises:
        EnrolmentError: absent, unreadable, too long or no text.
    """
    try:
        return read_limited(path, MAX_FILE_BYTES).decode("ascii")
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read ({error.strerror}): give a file of certificates") from None
    except ValueError:
        raise EnrolmentError(f"{path}: no certificates in PEM: give the file that the authority issued") from None


def read_package(path: Path) -> EnrolmentPackage:
    """The package in a file, its own signature verified.

    Raises:
        EnrolmentError: absent, unreadable, altered or not a package.
    """
    try:
        return EnrolmentPackage.from_json(read_limited(path, MAX_FILE_BYTES))
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read ({error.strerror}): give the file that the hub sent") from None
    except ValueError as error:
        raise EnrolmentError(f"{path}: {error}, so it is no package: give the file that the hub sent") from None
    except EnrolmentError as error:
        raise EnrolmentError(f"{path}: {error}") from None


def is_known(home: InstitutionDirectory, package: EnrolmentPackage) -> bool:
    """Whether it comes from the very hub that this institution joined before: then its signature says enough."""
    if not home.package_path.exists():
        return False
    before = home.package()
    return (before.hub, before.authority) == (package.hub, package.authority)


def accept(home: InstitutionDirectory, package: EnrolmentPackage, fingerprint: str | None) -> None:
    """Keep the package, once it is certain that it answers our request and whose it is.

    Args:
        fingerprint: the fingerprint that the hub's operator read out, with or without spaces. None for a hub that
            `is_known`.

    Raises:
        EnrolmentError: another fingerprint, another request, another key, or a hub that runs other code than is
            installed here. Nothing was changed.
        PassphraseError: the keys are encrypted, and the passphrase is missing or wrong.
    """
    what = f"package for {package.institution}"
    if fingerprint is not None:
        if not is_fingerprint(package.fingerprint, fingerprint):
            raise EnrolmentError(f"{what}: its fingerprint is another one: do not use it, call the hub's operator")
    elif not is_known(home, package):
        raise EnrolmentError(f"{what}: give --fingerprint, as the hub's operator reads it out by telephone")
    package.check_answers(EnrolmentRequest.from_json(home.request_path.read_bytes()))
    certificate = load_pem_x509_certificate(package.certificate.encode())
    key = load_key(home.tls_key_path.read_bytes(), home.secret(Slot.NODE))
    if certificate.public_key() != key.public_key():
        raise EnrolmentError(f"{what}: its certificate is for another key than {home.tls_key_path}")
    if package.app_sha256 != bundle_sha256():
        raise EnrolmentError(f"{what}: the hub runs other code than is installed here: install the release it names")
    write_atomic(home.tls / "ca.pem", (package.authority + package.server_authority).encode())
    write_atomic(home.tls / "client.pem", package.certificate.encode())
    write_atomic(home.package_path, package.to_json().encode() + b"\n")


def expiring(home: InstitutionDirectory) -> list[str]:
    """Return one line if this institution's certificate expires within `WARN_DAYS` or has expired, else none.

    Raises:
        ConfigurationError, EnrolmentError: See `InstitutionDirectory.package`.
    """
    when = home.certificate().expiry(WARN_DAYS)
    if not when:
        return []
    if authority_of(home.package().certificate):
        return [f"this institution's certificate {when}: renew it, and run `fedfin-institution certificate` with it"]
    return [f"this institution's certificate {when}: ask the hub's operator for a new package, and join with it"]

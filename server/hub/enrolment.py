"""Enrol, renew and revoke institutions in the hub's directory, for `approve`, `revoke` and `certs`."""

import hashlib
from datetime import timedelta
from pathlib import Path

from common.errors import EnrolmentError
from common.files import write_atomic, write_json
from common.flower.bundle import bundle_sha256
from common.identity.authority import Certificate, new_key_and_request
from common.identity.chains import certificates_of, check_dates, check_server_chain, read_authorities, subject_of
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.x509 import load_key, server_request
from server.hub.audit_log import note
from server.hub.directory import Enrolled, HubDirectory
from server.hub.paths import Slot

_ALIKE = str.maketrans("01i", "oll", " _.-")
"""Digits and letters that look alike, and the separators, which nobody reads aloud."""

__all__ = [
    "approve",
    "install_server",
    "renew_institution",
    "renew_server",
    "request_server",
    "revoke",
    "trust_server_authority",
]


def approve(
    home: HubDirectory, request: EnrolmentRequest, approved_units: int | None = None, own_authority: bool = False
) -> tuple[EnrolmentPackage, Path]:
    """Enrol an institution and return its package with the path of the written file.

    The same request may be approved again. A request with other keys under the same name requires that the old keys are
    revoked first, and then its TLS key and node key must be new. The signing key, and with it the ledger, may stay.

    Args:
        home: The hub's directory.
        request: The request of the institution.
        approved_units: Largest number of units with which its declared size counts. None leaves it as it is.
        own_authority: The operator approves the authority of the certificate that the request brings.

    Raises:
        EnrolmentError: The name is taken, or a key of the request belongs to another institution or was revoked.
    """
    name, enrolled = request.keys.name, home.enrolled()
    if name == home.public_keys().name:
        raise EnrolmentError(f"request of {name}: this is the hub's own name: the institution must choose another one")
    before = enrolled.get(name)
    same = before is not None and before.request.has_keys_of(request)
    if request.chain:
        check_dates(request.chain)
    known = before.own_authority if before is not None and same else ""
    if request.own_authority not in ("", known) and not own_authority:
        raise EnrolmentError(
            f"request of {name}: it brings a certificate of its own authority {subject_of(request.own_authority)!r}: "
            "compare that with the institution, and give --own-authority"
        )
    if before is not None and not before.revoked and not same:
        raise EnrolmentError(f"request of {name}: it is enrolled with other keys: run `fedfin-hub revoke {name}` first")
    shut_out = home.revocations().keys | (before.request.machine_keys if before and before.revoked else frozenset())
    if request.machine_keys & shut_out:
        raise EnrolmentError(
            f"request of {name}: one of its keys was revoked: the institution makes new ones with "
            "`fedfin-institution init --home DIR --name NAME --renew`"
        )
    for other, entry in enrolled.items():
        if other != name and _looks(other) == _looks(name):
            raise EnrolmentError(f"request of {name}: the name looks like {other}: the institution must choose another")
        if other != name and _shares_a_key(entry.request, request):
            raise EnrolmentError(
                f"request of {name}: one of its keys belongs to {other}: the institution must make its own"
            )
    _open_keys(home)
    if before is not None and before.revoked:
        home.revocations().readmit(name).save(home.revocations_path)
    write_atomic(home.institutions_path / name / "request.json", request.to_json().encode() + b"\n")
    if approved_units is not None:
        write_json(home.institutions_path / name / "approved.json", {"declared_units": approved_units})
    package, path = _issue(home, request)
    note(
        home,
        "institution_renewed" if same else "institution_enrolled",
        {
            "institution": name,
            "request_fingerprint": request.fingerprint,
            "serial": Certificate.read(package.certificate).serial,
            "approved_units": home.enrolled()[name].approved_units,
        },
    )
    return package, path


def renew_institution(home: HubDirectory, name: str) -> tuple[EnrolmentPackage, Path]:
    """Issue a new certificate for the same keys. The old one stays valid until it expires, so that no run is lost.

    An institution with an authority of its own gets a new package with its present certificate.

    Raises:
        EnrolmentError: No institution of that name is enrolled.
    """
    return approve(home, _member(home, name).request)


def renew_server(home: HubDirectory) -> Certificate:
    """Make a new key and certificate for the gateway, which uses them for every new connection without a restart."""
    settings = home.settings()
    _open_keys(home)
    key, request = new_key_and_request("server", home.secret(Slot.GATEWAY))
    lifetime = timedelta(days=settings.certificates.server_days)
    certificate = home.authority().issue_server(request, settings.gateway.names, lifetime)
    write_atomic(home.server_key, key, mode=0o600)
    write_atomic(home.server_certificate, certificate.encode())
    issued = Certificate.read(certificate)
    note(home, "server_certificate_renewed", {"serial": issued.serial})
    return issued


def trust_server_authority(home: HubDirectory, authorities: bytes) -> None:
    """Name outside authorities for the gateway's certificate in every package from now on. The hub's own stays.

    Raises:
        EnrolmentError: They cannot be used.
    """
    home.keys()
    pem = read_authorities(authorities)
    check_dates(pem)
    write_atomic(home.server_authority_path, pem.encode())
    digest = hashlib.sha256(pem.encode()).hexdigest()
    note(home, "server_authority_trusted", {"sha256": digest, "subject": subject_of(pem)})


def request_server(home: HubDirectory) -> str:
    """Return a request (PEM) for a certificate of the gateway's present key, for an outside authority.

    Raises:
        EnrolmentError, PassphraseError: The key cannot be used.
    """
    secret = home.secret(Slot.GATEWAY)
    try:
        key = load_key(home.server_key.read_bytes(), secret)
    except (OSError, ValueError):
        raise EnrolmentError(f"{home.server_key}: damaged: run `fedfin-hub certs --rotate server`") from None
    return server_request(key, home.settings().gateway.names)


def install_server(home: HubDirectory, chain: bytes) -> Certificate:
    """Let the gateway show a certificate of an outside authority, for every new connection without a restart.

    Raises:
        EnrolmentError: Institutions would not accept it.
    """
    home.keys()
    authorities = home.server_authority()
    if not authorities:
        raise EnrolmentError(
            "server certificate: no outside authority is trusted: run `fedfin-hub certs --trust` first"
        )
    present = Certificate.read(home.server_certificate.read_bytes())
    check_dates(chain)
    check_server_chain(chain, home.settings().gateway.names, present.key, authorities)
    certificates = certificates_of(chain)  # Others may read this file, and the text may hold the private key too.
    write_atomic(home.server_certificate, certificates.encode())
    issued = Certificate.read(certificates)
    note(home, "server_certificate_installed", {"serial": issued.serial})
    return issued


def revoke(home: HubDirectory, name: str) -> None:
    """Revoke an institution's certificates at once, and its Flower key for good.

    Raises:
        EnrolmentError: No institution of that name is enrolled.
    """
    entry = _member(home, name)
    home.keys()
    # An outside authority chooses its serials, and could choose that of another institution's certificate.
    serials = [] if entry.own_authority else [entry.certificate.serial]
    revoked = home.revocations().revoke(name, serials, entry.request.machine_keys)
    revoked.save(home.revocations_path)
    note(home, "institution_revoked", {"institution": name, "serial": entry.certificate.serial})


def _open_keys(home: HubDirectory) -> None:
    """Fail before anything is written if a private key cannot be used. Raises as `keys` and `authority` do."""
    home.keys()
    home.authority()


def _issue(home: HubDirectory, request: EnrolmentRequest) -> tuple[EnrolmentPackage, Path]:
    name, settings, authority = request.keys.name, home.settings(), home.authority()
    lifetime = timedelta(days=settings.certificates.institution_days)
    certificate = request.chain or authority.issue_client(request.csr, name, lifetime)
    package = EnrolmentPackage.make(
        home.keys(), request, certificate, authority.pem, settings.gateway.address, bundle_sha256(),
        home.server_authority(),
    )  # fmt: skip
    directory = home.institutions_path / name
    path = directory / f"{name}.package.json"
    write_atomic(path, package.to_json().encode() + b"\n")
    # Written last: with it the institution is enrolled.
    write_atomic(directory / "certificate.pem", certificate.encode())
    return package, path


def _member(home: HubDirectory, name: str) -> Enrolled:
    members = home.members()
    if name not in members:
        remedy = f"choose one of {', '.join(members)}" if members else "enrol one with `fedfin-hub approve`"
        raise EnrolmentError(f"{name[:80]!r}: no institution of that name is enrolled: {remedy}")
    return members[name]


def _looks(name: str) -> str:
    """Return a text that is equal for names that a person may take for each other."""
    return name.casefold().translate(_ALIKE)


def _shares_a_key(one: EnrolmentRequest, other: EnrolmentRequest) -> bool:
    return (
        one.node_key == other.node_key
        or one.keys.signing == other.keys.signing
        or one.keys.sealing == other.keys.sealing
    )

"""Certificates: real TLS handshakes on loopback, and requests that lie."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from common.errors import EnrolmentError
from common.identity.authority import Authority, Certificate, check_request, new_key_and_request
from common.identity.revocations import Revocations
from common.identity.tls import client_context, server_context

DAY = timedelta(days=1)


def issue_server(authority: Authority, directory: Path, addresses: list[str], lifetime: timedelta = DAY) -> Path:
    key, request = new_key_and_request("server")
    (directory / "server.key").write_bytes(key)
    (directory / "server.pem").write_text(authority.issue_server(request, addresses, lifetime))
    return directory / "server.pem"


def issue_client(authority: Authority, directory: Path, name: str, lifetime: timedelta = DAY) -> Path:
    key, request = new_key_and_request(name)
    (directory / f"{name}.key").write_bytes(key)
    (directory / f"{name}.pem").write_text(authority.issue_client(request, name, lifetime))
    return directory / f"{name}.pem"


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, dialled: str = "127.0.0.1") -> tuple[str | None, str]:
    """TLS version and the name the server read in the client's certificate, or raises the client's error."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with server.wrap_socket(connection, server_side=True) as tls:
                seen.append(tls.getpeercert(binary_form=True) or b"")
                tls.sendall(b"y")
        except (ssl.SSLError, OSError):
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (
            socket.create_connection(listener.getsockname()) as raw,
            client.wrap_socket(raw, server_hostname=dialled) as tls,
        ):
            # In TLS 1.3 a refused client certificate shows at the first read.
            if tls.recv(1) != b"y":
                raise ConnectionError("closed")
            version = tls.version()
    finally:
        thread.join()
        listener.close()
    return version, Certificate.of_der(seen[0]).name


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "hub authority")


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    issue_server(authority, tmp_path, ["127.0.0.1", "hub.example.org"])
    return server_context(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca" / "ca.pem")


def test_both_ends_show_a_certificate_and_speak_tls_1_3(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    pem = issue_client(authority, tmp_path, "bank one")
    client = client_context(pem, pem.with_suffix(".key"), tmp_path / "ca" / "ca.pem")
    assert handshake(server, client) == ("TLSv1.3", "bank one")
    assert handshake(server, client, "hub.example.org") == ("TLSv1.3", "bank one")


def test_the_hub_is_refused_under_a_name_it_was_not_certified_for(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    pem = issue_client(authority, tmp_path, "bank")
    client = client_context(pem, pem.with_suffix(".key"), tmp_path / "ca" / "ca.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "other.example.org")


@pytest.mark.parametrize("case", ["none", "other authority", "expired", "server's own"])
def test_whoever_shows_no_valid_client_certificate_is_refused(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, case: str
) -> None:
    if case == "none":
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(tmp_path / "ca" / "ca.pem")
    else:
        if case == "server's own":
            pem = tmp_path / "server.pem"
        else:
            other = Authority.create(tmp_path / "other", "other") if case == "other authority" else authority
            pem = issue_client(other, tmp_path, "bank", timedelta(seconds=-1) if case == "expired" else DAY)
        client = client_context(pem, pem.with_suffix(".key"), tmp_path / "ca" / "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, client)


def test_a_peer_that_offers_no_tls_1_3_is_refused(authority: Authority, server: ssl.SSLContext, tmp_path: Path) -> None:
    pem = issue_client(authority, tmp_path, "bank")
    client = client_context(pem, pem.with_suffix(".key"), tmp_path / "ca" / "ca.pem")
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, client)


def test_a_certificate_says_when_it_expires_and_who_issued_it(authority: Authority, tmp_path: Path) -> None:
    certificate = Certificate.read(issue_client(authority, tmp_path, "bank", timedelta(days=90)).read_text())
    assert certificate.name == "bank"
    assert 89.9 < certificate.days_left() <= 90
    assert certificate.days_left(datetime.now(UTC) + timedelta(days=91)) < 0
    assert authority.issued(certificate)
    assert not Authority.create(tmp_path / "other", "hub authority").issued(certificate)


def test_the_hub_certifies_the_name_it_approved_not_the_one_in_the_request(authority: Authority) -> None:
    _, request = new_key_and_request("bank two")
    assert Certificate.read(authority.issue_client(request, "bank one", DAY)).name == "bank one"
    with pytest.raises(EnrolmentError, match="another name"):
        check_request(request, "bank one")


def test_a_request_that_was_altered_or_has_a_weak_key_is_refused(authority: Authority) -> None:
    _, request = new_key_and_request("bank")
    lines = request.splitlines()
    lines[2] = lines[2][:-1] + ("A" if lines[2][-1] != "A" else "B")
    weak = (
        CertificateSigningRequestBuilder().subject_name(Name([])).sign(rsa.generate_private_key(65537, 2048), SHA256())
    )
    for bad in ("\n".join(lines), "", "x" * 20_000, weak.public_bytes(Encoding.PEM)):
        with pytest.raises(EnrolmentError):
            authority.issue_client(bad, "bank", DAY)


@pytest.mark.parametrize("name", ["", "../bank", "a" * 65, "bänk", ".hidden", "a/b", "a\n"])
def test_names_that_are_unsafe_in_a_path_or_a_certificate_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(EnrolmentError):
        new_key_and_request(name)
    with pytest.raises(EnrolmentError):
        authority.issue_client(new_key_and_request("bank")[1], name, DAY)


@pytest.mark.parametrize("address", ["", "two words", "hub..org", "http://hub", "a" * 254])
def test_an_address_that_nobody_can_dial_is_refused(authority: Authority, address: str) -> None:
    with pytest.raises(EnrolmentError):
        authority.issue_server(new_key_and_request("server")[1], [address], DAY)
    with pytest.raises(EnrolmentError):
        authority.issue_server(new_key_and_request("server")[1], [], DAY)


def test_an_authority_is_never_overwritten_and_its_key_stays_the_owners(tmp_path: Path, authority: Authority) -> None:
    key = tmp_path / "ca" / "ca.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert Authority.load(tmp_path / "ca").pem == authority.pem
    with pytest.raises(EnrolmentError, match="already"):
        Authority.create(tmp_path / "ca", "again")
    key.chmod(0o644)
    with pytest.raises(EnrolmentError, match="chmod 600"):
        Authority.load(tmp_path / "ca")


def test_revocation_covers_a_name_and_each_serial_and_readmits_only_the_name(
    authority: Authority, tmp_path: Path
) -> None:
    old = Certificate.read(issue_client(authority, tmp_path, "bank").read_text())
    new = Certificate.read(issue_client(authority, tmp_path, "bank").read_text())
    other = Certificate.read(issue_client(authority, tmp_path, "other").read_text())
    path = tmp_path / "revoked.json"
    assert not Revocations.load(path).covers(old)
    Revocations.load(path).revoke("bank", [old.serial], ["ab" * 32]).save(path)
    revoked = Revocations.load(path)
    assert revoked.covers(old)
    assert revoked.covers(new)
    assert not revoked.covers(other)
    assert revoked.readmit("bank").covers(old)
    assert not revoked.readmit("bank").covers(new)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format":"fedfin-revocations-1","names":[1],"serials":[]}'])
def test_a_damaged_list_of_revocations_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "revoked.json").write_text(text)
    with pytest.raises(EnrolmentError, match=r"revoked\.json"):
        Revocations.load(tmp_path / "revoked.json")

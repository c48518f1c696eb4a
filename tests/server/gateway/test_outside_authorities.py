"""The gateway takes an approved authority's certificates for its institution's key alone, and shows an outside one."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.errors import EnrolmentError
from common.identity.authority import Certificate, new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.identity.tls import client_context
from server.commands import approve as approve_command
from server.commands import certs
from server.hub.enrolment import (
    approve,
    install_server,
    renew_server,
    request_server,
    revoke,
    trust_server_authority,
)
from server.runs.status import certificates, expiring
from tests.outside_authority import OutsideAuthority
from tests.server.commands.hub_commands import contents, printed, refusal
from tests.server.gateway.served import Served, until

BANK, OTHER, HUBS = OutsideAuthority("bank"), OutsideAuthority("other"), OutsideAuthority("hub operator")
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class Own:
    """An institution with a key of its own, which brings its certificates itself."""

    def __init__(self, directory: Path, name: str = "north") -> None:
        self.directory, self.name = directory, name
        directory.mkdir()
        key, self.csr = new_key_and_request(name)
        (directory / "client.key").write_bytes(key)
        self.keys = PrivateKeys.generate(name)
        self.node = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())

    def request(self, chain: str) -> EnrolmentRequest:
        return EnrolmentRequest.make(self.keys, self.csr, self.node, chain)

    def shows(self, chain: str, trusts: str) -> "Own":
        (self.directory / "client.pem").write_text(chain)
        (self.directory / "ca.pem").write_text(trusts)
        files = (self.directory / name for name in ("client.pem", "client.key", "ca.pem"))
        self.context = client_context(*files)
        return self


def status(served: Served, own: Own) -> int:
    """The status of a call, and 0 if the connection is refused."""
    try:
        return served.status(own)
    except (ssl.SSLError, ConnectionError, IndexError):
        return 0


@pytest.fixture
def authority(served: Served) -> str:
    return served.home.authority_certificate.read_text()


def test_an_authority_counts_once_the_operator_has_approved_it(
    served: Served, authority: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = Own(tmp_path / "north")
    request = north.request(BANK.issue(north.csr, up_to="issuing"))
    north.shows(request.chain, authority)
    (tmp_path / "request.json").write_text(request.to_json())
    command = (
        "approve",
        tmp_path / "request.json",
        "--fingerprint",
        request.fingerprint,
        "--home",
        served.home.directory,
    )
    before = contents(served.home.directory)
    assert "'CN=bank issuing'" in refusal(capsys, approve_command.add, *command)
    assert contents(served.home.directory) == before
    assert status(served, north) == 0
    printed(capsys, approve_command.add, *command, "--own-authority")
    until(lambda: status(served, north) == 200)
    # Renewed by the institution, without the hub.
    assert status(served, north.shows(BANK.issue(north.csr, up_to="issuing"), authority)) == 200
    assert status(served, north.shows(OTHER.issue(north.csr), authority)) == 0
    assert status(served, north.shows(BANK.issue(north.csr, days=-1), authority)) == 0
    rows = {row["name"]: row["state"] for row in certificates(served.home)}
    assert (rows["north"], expiring(served.home)) == ("own", [])


def test_an_approved_authority_speaks_for_its_own_institution_and_key_alone(
    served: Served, authority: str, tmp_path: Path
) -> None:
    north, south, thief = Own(tmp_path / "north"), Own(tmp_path / "south", "south"), Own(tmp_path / "thief", "south")
    approve(served.home, north.request(BANK.issue(north.csr)), own_authority=True)
    approve(served.home, south.request(""))
    until(lambda: status(served, north.shows(BANK.issue(north.csr), authority)) == 200)
    another_key = Own(tmp_path / "another")
    for own in (thief, another_key):
        assert status(served, own.shows(BANK.issue(own.csr), authority)) == 401


def test_a_revocation_ends_every_certificate_for_the_key(served: Served, authority: str, tmp_path: Path) -> None:
    north = Own(tmp_path / "north")
    approve(served.home, north.request(BANK.issue(north.csr)), own_authority=True)
    until(lambda: status(served, north.shows(BANK.issue(north.csr), authority)) == 200)
    revoke(served.home, "north")
    until(lambda: status(served, north) == 401)
    assert status(served, north.shows(BANK.issue(north.csr), authority)) == 401
    with pytest.raises(EnrolmentError, match="one of its keys was revoked"):
        approve(served.home, north.request(BANK.issue(north.csr)), own_authority=True)


def test_a_revocation_shuts_out_no_other_institution_whose_serial_an_outside_authority_has_copied(
    served: Served, authority: str, tmp_path: Path
) -> None:
    north, south = Own(tmp_path / "north"), Own(tmp_path / "south", "south")
    package, _ = approve(served.home, south.request(""))
    victim = Certificate.read(package.certificate)
    copied = BANK.issue(north.csr, serial=int(victim.serial, 16))
    approve(served.home, north.request(copied), own_authority=True)
    revoke(served.home, "north")
    revoked = served.home.revocations()
    assert revoked.covers(Certificate.read(copied))
    assert not revoked.covers(victim)
    assert status(served, south.shows(package.certificate, authority)) == 200


def test_another_authority_or_an_expired_certificate_is_approved_anew(served: Served, tmp_path: Path) -> None:
    north = Own(tmp_path / "north")
    approve(served.home, north.request(BANK.issue(north.csr)), own_authority=True)
    approve(served.home, north.request(BANK.issue(north.csr)))
    with pytest.raises(EnrolmentError, match="'CN=other root'"):
        approve(served.home, north.request(OTHER.issue(north.csr)))
    with pytest.raises(EnrolmentError, match="has expired"):
        approve(served.home, north.request(BANK.issue(north.csr, days=-1)), own_authority=True)


def test_a_member_whose_own_certificate_has_expired_keeps_nobody_out(
    served: Served, authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = Own(tmp_path / "north"), Own(tmp_path / "south", "south")
    with monkeypatch.context() as patch:
        patch.setattr("server.hub.enrolment.check_dates", lambda _: None)
        approve(served.home, north.request(BANK.issue(north.csr, days=-1)), own_authority=True)
    package, _ = approve(served.home, south.request(""))
    until(lambda: status(served, south.shows(package.certificate, authority)) == 200)


def test_the_gateway_shows_a_certificate_of_the_operators_authority(
    served: Served, authority: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, own = ("--home", served.home.directory), Own(tmp_path / "north")
    first, _ = approve(served.home, own.request(""))
    (tmp_path / "root.pem").write_text(HUBS.root)
    request, chain = tmp_path / "server.csr", tmp_path / "chain.pem"
    printed(capsys, certs.add, "certs", "--request", request, *home)
    chain.write_text(HUBS.issue(request.read_text(), purpose=SERVER, up_to="issuing"))
    assert "certs --trust" in refusal(capsys, certs.add, "certs", "--install", chain, *home)
    printed(capsys, certs.add, "certs", "--trust", tmp_path / "root.pem", *home)
    second, _ = approve(served.home, own.request(""))
    assert (first.server_authority, second.server_authority) == ("", HUBS.root)
    printed(capsys, certs.add, "certs", "--install", chain, *home)
    old, new = first.authority, second.authority + second.server_authority

    def shown() -> bool:
        return status(served, own.shows(second.certificate, old)) == 0

    until(shown)
    assert status(served, own.shows(second.certificate, new)) == 200
    # Back to the hub's own authority.
    renew_server(served.home)
    until(lambda: status(served, own.shows(second.certificate, old)) == 200)


def test_the_file_of_the_servers_certificate_never_holds_its_private_key(served: Served) -> None:
    home = served.home
    trust_server_authority(home, HUBS.root.encode())
    chain = HUBS.issue(request_server(home), purpose=SERVER)
    install_server(home, home.server_key.read_bytes() + chain.encode())
    assert home.server_certificate.read_text() == chain


def test_a_request_that_cannot_be_written_is_one_line(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "server.csr"):
        line = refusal(capsys, certs.add, "certs", "--request", path, "--home", served.home.directory)
        assert "cannot be written" in line
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_server_certificate_that_institutions_would_refuse_is_not_installed(served: Served) -> None:
    home = served.home
    trust_server_authority(home, HUBS.root.encode())
    before = home.server_certificate.read_bytes()
    _, stranger = new_key_and_request("server")
    with pytest.raises(EnrolmentError, match="for another key"):
        install_server(home, HUBS.issue(stranger, purpose=SERVER).encode())
    with pytest.raises(EnrolmentError, match="no certificate of an authority"):
        trust_server_authority(home, before)
    assert home.server_certificate.read_bytes() == before
    assert Certificate.read(before).name == "127.0.0.1"

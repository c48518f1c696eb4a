"""The hub's directory, and who is let into it."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import ConfigurationError, EnrolmentError, LedgerError, ServiceError
from common.identity.authority import Authority, Certificate, new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.journal.journal import verify
from server.gateway.doorkeeper import Doorkeeper
from server.hub.audit_log import HUB_PURPOSE, note, verify_all
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve, renew_institution, renew_server, revoke
from server.runs.status import certificates, expiring, institutions, is_started, starting


def make_request(name: str, keys: PrivateKeys | None = None) -> EnrolmentRequest:
    node = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())
    return EnrolmentRequest.make(keys or PrivateKeys.generate(name), new_key_and_request(name)[1], node)


@pytest.fixture
def home(tmp_path: Path) -> HubDirectory:
    return HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", ["hub.example.org"])


def test_secrets_are_the_owners_alone(home: HubDirectory) -> None:
    for secret in ("keys/private.json", "ca/ca.key", "tls/server.key"):
        assert (home.directory / secret).stat().st_mode & 0o077 == 0
    assert home.directory.stat().st_mode & 0o077 == 0
    settings = home.settings().gateway
    assert (settings.address, settings.listen) == ("127.0.0.1:8443", "127.0.0.1:8443")
    assert settings.names == ("127.0.0.1", "hub.example.org")


def test_a_hub_that_others_dial_listens_for_them(tmp_path: Path) -> None:
    made = HubDirectory.create(tmp_path / "hub", "hub", "hub.example.org:9443", [])
    assert made.settings().gateway.listen == "0.0.0.0:9443"


def test_nothing_is_overwritten_and_bad_names_leave_nothing_behind(home: HubDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not empty"):
        HubDirectory.create(home.directory, "hub", "127.0.0.1:8443", [])
    for name, address, also in (("", "h:1", []), ("hub", "nowhere", []), ("hub", "h:1", ["two words"])):
        with pytest.raises(EnrolmentError):
            HubDirectory.create(tmp_path / "other", name, address, also)
        assert not (tmp_path / "other").exists()


def test_no_certificate_of_an_earlier_enrolment_is_accepted_again(home: HubDirectory) -> None:
    door = Doorkeeper(home)
    earlier = []
    for _ in range(2):
        request = make_request("bank")
        earlier.append((request, Certificate.read(approve(home, request)[0].certificate)))
        earlier.append((request, Certificate.read(renew_institution(home, "bank")[0].certificate)))
        revoke(home, "bank")
    latest = make_request("bank")
    certificate = Certificate.read(approve(home, latest)[0].certificate)
    assert door.objection_to(certificate) == ""
    for request, old in earlier:
        assert door.objection_to(old) != ""
        with pytest.raises(EnrolmentError, match="was revoked"):
            revoke_and_approve(home, request)


def revoke_and_approve(home: HubDirectory, request: EnrolmentRequest) -> None:
    if "bank" in home.members():
        revoke(home, "bank")
    try:
        approve(home, request)
    finally:
        approve(home, make_request("bank"))


@pytest.mark.parametrize("name", ["Bank-One", "bank_one", "bank one", "bank.0ne", "BankOne"])
def test_a_name_that_looks_like_another_institutions_is_refused(home: HubDirectory, name: str) -> None:
    approve(home, make_request("bank-one"))
    with pytest.raises(EnrolmentError, match="looks like bank-one"):
        approve(home, make_request(name))
    approve(home, make_request("bank-two"))


def test_a_declared_size_counts_up_to_the_approved_one(home: HubDirectory) -> None:
    request = make_request("north")
    approve(home, request)
    assert home.members()["north"].approved_units == 1024
    approve(home, request, 65536)
    assert home.members()["north"].approved_units == 65536
    renew_institution(home, "north")
    assert home.members()["north"].approved_units == 65536
    assert [entry.body["approved_units"] for entry in verify(home.audit_path, home.keys().public, HUB_PURPOSE)] == [
        1024,
        65536,
        65536,
    ]
    for damaged in ("", "{}", '{"declared_units": 0}', '{"declared_units": 1e99}', '{"declared_units": true}'):
        (home.institutions_path / "north" / "approved.json").write_text(damaged)
        with pytest.raises(EnrolmentError, match="not an approved size"):
            home.members()


def test_a_directory_without_a_hub_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDFIN_HUB", str(tmp_path))
    with pytest.raises(ConfigurationError, match="--home or FEDFIN_HUB"):
        HubDirectory.open(None)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('address = "127.0.0.1:8443"', 'address = "nowhere"', "gateway.address"),
        ("server_days = 90", "server_days = 0", "certificates.server_days"),
        ("[certificates]", "[certificate]", "certificates"),
        ("max_body_mib = 16", "max_body_mib = 1", "gateway.max_body_mib"),
    ],
)
def test_a_wrong_setting_is_named(home: HubDirectory, old: str, new: str, named: str) -> None:
    text = home.settings_path.read_text()
    assert old in text
    home.settings_path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=named):
        home.settings()


def test_an_approved_institution_gets_a_package_that_answers_its_request(home: HubDirectory) -> None:
    request = make_request("bank")
    package, path = approve(home, request)
    assert EnrolmentPackage.from_json(path.read_bytes()) == package
    package.check_answers(request)
    assert home.authority().issued(Certificate.read(package.certificate))
    assert package.hub == home.keys().public
    assert list(home.members()) == ["bank"]
    assert [entry.kind for entry in verify(home.audit_path, home.keys().public, HUB_PURPOSE)] == [
        "institution_enrolled"
    ]


def test_a_name_or_a_key_that_is_taken_is_refused(home: HubDirectory) -> None:
    keys = PrivateKeys.generate("bank")
    approve(home, make_request("bank", keys))
    with pytest.raises(EnrolmentError, match="other keys"):
        approve(home, make_request("bank"))
    stolen = PrivateKeys(name="other", signing=keys.signing, mlkem768=keys.mlkem768, x25519=keys.x25519)
    with pytest.raises(EnrolmentError, match="belongs to bank"):
        approve(home, make_request("other", stolen))
    with pytest.raises(EnrolmentError, match="the hub's own"):
        approve(home, make_request("hub"))
    assert list(home.members()) == ["bank"]


def test_a_revoked_institution_returns_only_with_new_keys_for_its_machines(home: HubDirectory) -> None:
    keys = PrivateKeys.generate("bank")
    request = make_request("bank", keys)
    package, _ = approve(home, request)
    revoke(home, "bank")
    assert home.members() == {}
    assert home.enrolled()["bank"].revoked
    with pytest.raises(EnrolmentError, match="revoked"):
        approve(home, request)
    with pytest.raises(EnrolmentError, match="no institution"):
        revoke(home, "bank")
    again = make_request("bank", keys)  # the result of `init --renew`: the signing keys stay
    half = EnrolmentRequest.make(keys, request.csr, again.node_key)
    with pytest.raises(EnrolmentError, match="--renew"):
        approve(home, half)
    approve(home, again)
    assert list(home.members()) == ["bank"]
    # Its old certificate stays out.
    assert home.revocations().covers(Certificate.read(package.certificate))


def header(request: EnrolmentRequest) -> str:

    return base64.b64encode(request.node_key.encode()).decode()


def test_the_doorkeeper_binds_certificate_and_node_key_and_sees_a_revocation_at_once(home: HubDirectory) -> None:
    bank, other = make_request("bank"), make_request("other")
    certificate = Certificate.read(approve(home, bank)[0].certificate)
    others = Certificate.read(approve(home, other)[0].certificate)
    door = Doorkeeper(home)
    assert door.objection(certificate, header(bank)) == ""
    assert door.objection(others, header(other)) == ""
    assert "another" in door.objection(certificate, header(other))
    assert "another" in door.objection(others, header(bank))
    for nothing in (None, "", "?", "eA=="):
        assert door.objection(certificate, nothing)
    stranger = Authority.create(home.directory.parent / "ca", "x").issue_client(bank.csr, "nobody", timedelta(days=1))
    assert door.objection(Certificate.read(stranger), header(bank)) == "not enrolled"
    expired = Certificate.read(home.authority().issue_client(bank.csr, "bank", timedelta(seconds=-1)))
    assert door.objection(expired, header(bank)) == "expired"
    revoke(home, "bank")
    assert door.objection(certificate, header(bank)) == "revoked"
    assert door.objection(others, header(other)) == ""


def test_a_damaged_list_of_revocations_lets_nobody_in(home: HubDirectory) -> None:
    bank = make_request("bank")
    certificate = Certificate.read(approve(home, bank)[0].certificate)
    home.revocations_path.write_text("{}")
    with pytest.raises(EnrolmentError, match="restore it"):
        Doorkeeper(home).objection(certificate, header(bank))


def test_certificates_are_renewed_for_the_same_keys_and_both_pass(home: HubDirectory) -> None:
    bank = make_request("bank")
    first = Certificate.read(approve(home, bank)[0].certificate)
    second = Certificate.read(renew_institution(home, "bank")[0].certificate)
    door = Doorkeeper(home)
    assert first.serial != second.serial
    assert door.objection(first, header(bank)) == door.objection(second, header(bank)) == ""
    key = home.server_key.read_bytes()
    assert renew_server(home).serial == Certificate.read(home.server_certificate.read_bytes()).serial
    assert home.server_key.read_bytes() != key
    kinds = [entry.kind for entry in verify(home.audit_path, home.keys().public)]
    assert kinds == ["institution_enrolled", "institution_renewed", "server_certificate_renewed"]


def test_what_expires_soon_is_said(home: HubDirectory) -> None:
    text = home.settings_path.read_text()
    approve(home, make_request("bank"))
    assert {entry["name"]: entry["state"] for entry in certificates(home)} == {
        "authority": "valid",
        "bank": "valid",
        "server": "valid",
    }
    assert expiring(home) == []
    home.settings_path.write_text(text.replace("warn_days = 30 ", "warn_days = 100"))
    found = certificates(home)
    assert (found[0]["name"], found[0]["state"]) == ("server", "soon")
    assert expiring(home) == ["the certificate of server expires in 90 days: fedfin-hub certs --rotate server"]
    assert [entry["state"] for entry in institutions(home)] == ["enrolled"]


def test_a_hub_is_started_once(home: HubDirectory) -> None:
    assert not is_started(home)
    with starting(home):
        assert is_started(home)
        with pytest.raises(ServiceError, match="started already"), starting(home):
            pass
    assert not is_started(home)


def test_the_audit_log_waits_for_another_writer_and_shows_edits(home: HubDirectory) -> None:
    note(home, "a", {"x": 1})
    note(home, "b", {"x": 2})
    assert verify_all(home.directory).hub == 2
    assert verify_all(home.directory, home.keys().public).hub == 2
    with pytest.raises(LedgerError):
        verify_all(home.directory, PrivateKeys.generate("hub").public)
    lines = home.audit_path.read_text().splitlines(keepends=True)
    home.audit_path.write_text(lines[0])
    with pytest.raises(LedgerError):
        verify_all(home.directory)

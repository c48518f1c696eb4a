"""An institution uses certificates of its own authority, and renews them without the hub."""

from pathlib import Path

import pytest

from client.commands import certificate
from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import accept, bring_certificate, expiring, read_chain
from common.errors import EnrolmentError
from common.flower.bundle import bundle_sha256
from common.identity.authority import Certificate
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from tests.client.commands.institution_commands import printed, refusal
from tests.client.enrolled import Enrolled, enrol
from tests.outside_authority import OutsideAuthority

BANK, OTHER, HUBS = OutsideAuthority("bank"), OutsideAuthority("other"), OutsideAuthority("hub operator")


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    return enrol(tmp_path)


def answer(enrolled: Enrolled, request: EnrolmentRequest) -> EnrolmentPackage:
    hub, authority = enrolled.hub, enrolled.authority.pem
    return EnrolmentPackage.make(hub, request, request.chain, authority, "127.0.0.1:1", bundle_sha256(), HUBS.root)


def shown(home: InstitutionDirectory) -> str:
    return (home.tls / "client.pem").read_text()


def test_the_hub_approves_the_authority_once_and_renewals_need_no_package(
    enrolled: Enrolled, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home, before = enrolled.home, shown(enrolled.home)
    csr = home.csr_path.read_text()
    (tmp_path / "chain.pem").write_text(BANK.issue(csr))
    words = printed(capsys, certificate.add, "certificate", tmp_path / "chain.pem", "--home", home.directory)
    assert "Send " in words
    assert shown(home) == before, "the hub has not approved the authority yet"
    request = EnrolmentRequest.from_json(home.request_path.read_bytes())
    assert request.own_authority == BANK.root
    accept(home, answer(enrolled, request), None)
    assert shown(home) == request.chain
    assert (home.tls / "ca.pem").read_text() == enrolled.authority.pem + HUBS.root
    (tmp_path / "chain.pem").write_text(BANK.issue(csr, days=60))
    words = printed(capsys, certificate.add, "certificate", tmp_path / "chain.pem", "--home", home.directory)
    assert "uses the certificate" in words
    assert shown(home) == (tmp_path / "chain.pem").read_text()
    assert home.request_path.read_bytes() == request.to_json().encode() + b"\n"
    assert 59 < home.certificate().days_left() <= 60
    assert expiring(home) == []
    home.package()


def test_a_private_key_beside_the_certificates_stays_where_it_is(enrolled: Enrolled) -> None:
    home = enrolled.home
    private = home.tls_key_path.read_text()
    chain = BANK.issue(home.csr_path.read_text())
    request, _ = bring_certificate(home, private + chain)
    assert request.chain == chain
    assert "PRIVATE" not in home.request_path.read_text()
    accept(home, answer(enrolled, request), None)
    bring_certificate(home, chain + private)
    assert shown(home) == chain


def test_another_authority_needs_the_hub_again(enrolled: Enrolled) -> None:
    home = enrolled.home
    request, _ = bring_certificate(home, BANK.issue(home.csr_path.read_text()))
    accept(home, answer(enrolled, request), None)
    before = shown(home)
    _, is_used = bring_certificate(home, OTHER.issue(home.csr_path.read_text()))
    assert not is_used
    assert shown(home) == before
    assert "fedfin-institution certificate" in expiring(home)[0]


def test_a_certificate_that_does_not_fit_changes_nothing(
    enrolled: Enrolled, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = enrolled.home
    before = shown(home), home.request_path.read_bytes()
    csr = home.csr_path.read_text()
    for chain in (BANK.issue(csr, name="other"), BANK.issue(csr, days=-1), BANK.issue(csr, up_to="leaf"), "nothing"):
        with pytest.raises(EnrolmentError):
            bring_certificate(home, chain)
    (tmp_path / "binary").write_bytes(b"\xff" * 10)
    for path in (tmp_path / "absent", tmp_path / "binary"):
        with pytest.raises(EnrolmentError, match=str(path)):
            read_chain(path)
        refusal(capsys, certificate.add, "certificate", path, "--home", home.directory)
    assert (shown(home), home.request_path.read_bytes()) == before
    assert Certificate.read(shown(home)).name == "bank"

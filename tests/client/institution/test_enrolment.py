"""An institution keeps a hub's package only when its sender is certain and it fits."""

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import accept, expiring, is_known, make_request, read_package
from common.errors import ConfigurationError, EnrolmentError
from common.flower.bundle import bundle_sha256
from common.identity.authority import Authority
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest, format_fingerprint
from common.identity.keys import PrivateKeys
from tests.client.enrolled import enrol


@pytest.fixture
def request_(tmp_path: Path) -> EnrolmentRequest:
    return make_request(tmp_path / "bank", "bank")


@pytest.fixture
def home(tmp_path: Path) -> InstitutionDirectory:
    return InstitutionDirectory(tmp_path / "bank")


class TheHub:
    def __init__(self, tmp_path: Path) -> None:
        self.keys, self.authority = PrivateKeys.generate("hub"), Authority.create(tmp_path / "authority", "authority")

    def answer(self, request: EnrolmentRequest, app: str = "", csr: str = "") -> EnrolmentPackage:
        name = request.keys.name
        certificate = self.authority.issue_client(csr or request.csr, name, timedelta(days=30))
        return EnrolmentPackage.make(
            self.keys, request, certificate, self.authority.pem, "127.0.0.1:1", app or bundle_sha256()
        )  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path) -> TheHub:
    return TheHub(tmp_path)


def kept(home: InstitutionDirectory) -> list[str]:
    return sorted(path.name for path in (*home.tls.iterdir(), home.package_path) if path.exists())


def test_init_leaves_private_keys_that_only_the_owner_reads_and_a_request_without_any(
    request_: EnrolmentRequest, home: InstitutionDirectory
) -> None:
    private = [home.keys_path / "private.json", home.tls / "client.key", home.node_key_path, home.settings_path]
    for path in (*private, home.directory):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    text = home.request_path.read_text()
    assert EnrolmentRequest.from_json(text) == request_
    assert "PRIVATE" not in text


def test_a_second_init_changes_nothing_and_renew_changes_all_but_the_keys_of_the_ledger(
    request_: EnrolmentRequest, home: InstitutionDirectory
) -> None:
    before = home.request_path.read_bytes(), home.node_key_path.read_bytes()
    with pytest.raises(ConfigurationError, match="holds an institution already"):
        make_request(home.directory, "bank")
    assert (home.request_path.read_bytes(), home.node_key_path.read_bytes()) == before
    renewed = make_request(home.directory, "bank", renew=True)
    assert renewed.keys == request_.keys
    assert renewed.csr != request_.csr
    assert renewed.node_key != request_.node_key
    with pytest.raises(ConfigurationError, match="it holds institution bank"):
        make_request(home.directory, "other", renew=True)


def test_an_interrupted_init_goes_on(home: InstitutionDirectory) -> None:
    InstitutionDirectory.create(home.directory, "bank")
    make_request(home.directory, "bank")
    assert home.request_path.exists()


def test_a_package_is_kept_with_the_fingerprint_that_was_read_out(
    request_: EnrolmentRequest, home: InstitutionDirectory, hub: TheHub
) -> None:
    package = hub.answer(request_)
    accept(home, package, format_fingerprint(package.fingerprint).upper())
    assert home.package() == package
    assert kept(home) == ["ca.pem", "client.key", "client.pem", "hub.json"]


def test_a_fingerprint_with_the_dashes_of_a_text_editor_is_understood_and_other_marks_are_refused(
    request_: EnrolmentRequest, home: InstitutionDirectory, hub: TheHub
) -> None:
    package = hub.answer(request_)
    groups = format_fingerprint(package.fingerprint).split()
    for wrong in ("\u00b7".join(groups), "\udcff".join(groups), "\u2013" * 40, "\u0661" * 40):
        with pytest.raises(EnrolmentError, match="its fingerprint is another one"):
            accept(home, package, wrong)
    accept(home, package, "\u2013".join(groups) + "\u00a0")
    assert home.package() == package


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless device here")
def test_a_package_that_never_ends_or_is_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b" " * 70_000)
    (tmp_path / "deep").write_bytes(b"[" * 60_000)
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path / "long", tmp_path / "deep", tmp_path):
        with pytest.raises(EnrolmentError) as refused:
            read_package(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)


def test_what_is_not_certain_is_refused_and_nothing_is_kept(
    request_: EnrolmentRequest, home: InstitutionDirectory, hub: TheHub, tmp_path: Path
) -> None:
    good = hub.answer(request_)
    other = make_request(tmp_path / "other" / "bank", "bank")
    wrong = {
        "another one": (good, "0" * 32),
        "another one ": (good, good.fingerprint[:8]),
        "give --fingerprint": (good, None),
        "another request": (hub.answer(other), None),
        "another key": (hub.answer(request_, csr=other.csr), None),
        "other code": (hub.answer(request_, app="0" * 64), None),
    }
    for message, (package, fingerprint) in wrong.items():
        if package is not good:
            fingerprint = package.fingerprint
        with pytest.raises(EnrolmentError, match=message.strip()):
            accept(home, package, fingerprint)
        assert kept(home) == ["client.key"]


def test_a_renewed_certificate_of_the_same_hub_needs_no_telephone(tmp_path: Path) -> None:
    enrolled = enrol(tmp_path)
    home, before = enrolled.home, enrolled.home.package()
    request = EnrolmentRequest.from_json(home.request_path.read_bytes())
    certificate = enrolled.authority.issue_client(request.csr, "bank", timedelta(days=60))
    renewed = EnrolmentPackage.make(
        enrolled.hub, request, certificate, enrolled.authority.pem, before.address, before.app_sha256
    )  # fmt: skip
    assert "expires in 30 days: ask the hub's operator for a new package" in expiring(home)[0]
    assert is_known(home, renewed)
    accept(home, renewed, None)
    assert expiring(home) == []
    assert (home.tls / "client.pem").read_text() == certificate
    impostor = EnrolmentPackage.make(
        PrivateKeys.generate("hub"), request, certificate, enrolled.authority.pem, before.address, before.app_sha256
    )  # fmt: skip
    with pytest.raises(EnrolmentError, match="give --fingerprint"):
        accept(home, impostor, None)


def test_a_file_that_is_no_package_is_one_line(
    tmp_path: Path, request_: EnrolmentRequest, home: InstitutionDirectory
) -> None:
    for path in (tmp_path / "absent", home.request_path, tmp_path):
        with pytest.raises(EnrolmentError) as error:
            read_package(path)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(str(path))


def test_an_altered_package_is_refused(
    request_: EnrolmentRequest, home: InstitutionDirectory, hub: TheHub, tmp_path: Path
) -> None:
    package = hub.answer(request_)
    path = tmp_path / "package.json"
    path.write_text(package.to_json().replace("127.0.0.1:1", "127.0.0.9:1"))
    with pytest.raises(EnrolmentError, match="does not verify"):
        read_package(path)

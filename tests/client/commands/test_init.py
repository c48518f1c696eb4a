"""`init` and `join`: an institution's keys stay with it, and a hub's package is kept only if its origin is certain."""

import argparse
import io
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from client.commands import init, join
from client.commands.options import ENVIRONMENT, LABELLED_TASKS, home_of, open_home
from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import make_request
from common.errors import ConfigurationError
from common.flower.bundle import bundle_sha256
from common.identity.authority import Authority
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest, format_fingerprint
from common.identity.keys import PrivateKeys
from tests.client.commands.institution_commands import command_line, printed, refusal

Joining = tuple[InstitutionDirectory, EnrolmentPackage, Path]


class Terminal(io.StringIO):
    """Standard input with an operator at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An institution and its package. Keys take a good part of a second to make, so each test works on a copy."""
    directory = tmp_path_factory.mktemp("made")
    request = make_request(directory / "bank", "bank")
    hub, authority = PrivateKeys.generate("hub"), Authority.create(directory / "authority", "authority")
    certificate = authority.issue_client(request.csr, "bank", timedelta(days=30))
    package = EnrolmentPackage.make(hub, request, certificate, authority.pem, "127.0.0.1:1", bundle_sha256())
    (directory / "package.json").write_text(package.to_json())
    return directory


@pytest.fixture
def joining(made: Path, tmp_path: Path) -> Joining:
    """An institution that has not joined yet, and the package that the hub's operator sent it."""
    directory = shutil.copytree(made / "bank", tmp_path / "bank")
    path = Path(shutil.copy(made / "package.json", tmp_path))
    return InstitutionDirectory(directory), EnrolmentPackage.from_json(path.read_bytes()), path


def test_init_prints_the_fingerprint_of_the_request_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "bank"
    words = printed(capsys, init.add, "init", "--home", directory, "--name", "bank")
    home = InstitutionDirectory(directory)
    request = EnrolmentRequest.from_json(home.request_path.read_text())
    assert format_fingerprint(request.fingerprint) in words
    assert f"fedfin-institution join PACKAGE --home {directory}" in words
    line = refusal(capsys, init.add, "init", "--home", directory, "--name", "bank")
    assert "holds an institution already" in line
    assert EnrolmentRequest.from_json(home.request_path.read_text()) == request


def test_init_renew_keeps_the_keys_of_the_ledger(joining: Joining, capsys: pytest.CaptureFixture[str]) -> None:
    home, _, _ = joining
    before = EnrolmentRequest.from_json(home.request_path.read_text())
    out = printed(capsys, init.add, "init", "--home", home.directory, "--name", "bank", "--renew", "--json")
    after = EnrolmentRequest.from_json(home.request_path.read_text())
    assert json.loads(out)["fingerprint"] == after.fingerprint != before.fingerprint
    assert after.keys == before.keys
    assert after.node_key != before.node_key


def test_join_keeps_the_package_whose_fingerprint_was_read_out(
    joining: Joining, capsys: pytest.CaptureFixture[str]
) -> None:
    home, package, path = joining
    spoken = format_fingerprint(package.fingerprint)
    words = printed(capsys, join.add, "join", path, "--fingerprint", spoken, "--home", home.directory)
    assert "bank has joined hub at 127.0.0.1:1." in words
    assert home.package() == package
    again = printed(capsys, join.add, "join", path, "--home", home.directory, "--json")
    assert json.loads(again) == {"hub": "hub", "address": "127.0.0.1:1", "name": "bank"}, "a known hub needs no call"


@pytest.mark.parametrize("fault", ["wrong fingerprint", "short fingerprint", "none, and no terminal", "edited package"])
def test_a_package_of_uncertain_origin_is_not_kept(
    joining: Joining, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    home, package, path = joining
    right = package.fingerprint
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    spoken = {"wrong fingerprint": [wrong], "short fingerprint": [right[:31]], "edited package": [right]}.get(fault)
    if fault == "edited package":
        path.write_text(path.read_text().replace("127.0.0.1:1", "127.0.0.1:2"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(right))
    fingerprint = ["--fingerprint", *spoken] if spoken else []
    refusal(capsys, join.add, "join", path, *fingerprint, "--home", home.directory)
    assert not home.package_path.exists()
    assert not (home.tls / "client.pem").exists()


@pytest.mark.parametrize("right", [True, False])
def test_at_a_terminal_join_asks_for_the_fingerprint(
    joining: Joining, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    home, package, path = joining
    monkeypatch.setattr(sys, "stdin", Terminal((package.fingerprint if right else "0" * 64) + "\n"))
    code = command_line(join.add)(["join", str(path), "--home", str(home.directory)])
    assert (code, home.package_path.exists()) == ((0, True) if right else (2, False))


def test_the_institution_is_that_of_home_else_of_the_environment(
    joining: Joining, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, package, path = joining
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in refusal(capsys, join.add, "join", path, "--fingerprint", package.fingerprint)
    monkeypatch.setenv(ENVIRONMENT, str(home.directory))
    printed(capsys, join.add, "join", path, "--fingerprint", package.fingerprint)
    assert home.package_path.exists()
    assert "no-bank" in refusal(capsys, join.add, "join", path, "--home", tmp_path / "no-bank")


def test_an_institution_is_opened_only_if_its_settings_can_be_read(joining: Joining) -> None:
    home, _, _ = joining
    args = argparse.Namespace(home=home.directory)
    assert open_home(args).directory == home_of(args).directory == home.directory
    home.settings_path.write_text("[institution")
    with pytest.raises(ConfigurationError, match=r"institution\.toml"):
        open_home(args)


def test_the_tasks_of_fine_tuning_alone_are_those_with_labelled_rows() -> None:
    assert "sentiment_analysis" in LABELLED_TASKS
    assert "document_summarization" in LABELLED_TASKS
    assert not {"masked_language_modelling", "multi_task"} & set(LABELLED_TASKS)

"""A hub whose signing key is in a token: every command that signs needs it, and those that verify do not."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.identity import keyring
from common.identity.authority import new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.identity.pin import read_pin_from
from server.commands import approve, init, verify
from server.gateway.services import prepare_services
from server.hub.directory import HubDirectory
from tests.passphrases import fresh_process, passphrase_file
from tests.server.commands.hub_commands import contents, printed, refusal
from tests.soft_tokens import PIN, SoftToken, forget_sessions, needs_softhsm

pytestmark = needs_softhsm


def new_process() -> None:
    keyring._held.clear()
    forget_sessions()


@pytest.fixture
def home(
    soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> HubDirectory:
    fresh_process(monkeypatch)
    printed(capsys, init.add, "init", "--home", tmp_path / "hub", *soft_token.options())
    new_process()
    return HubDirectory.open(tmp_path / "hub")


def test_packages_and_the_audit_log_are_signed_by_the_token(
    home: HubDirectory, soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())
    request = EnrolmentRequest.make(PrivateKeys.generate("bank"), new_key_and_request("bank")[1], node)
    (tmp_path / "request.json").write_text(request.to_json())
    out = tmp_path / "package.json"
    given = ("--fingerprint", request.fingerprint, "--out", out, "--home", home.directory)
    command = ("approve", tmp_path / "request.json", *given)
    before = contents(home.directory)
    wrong = passphrase_file(tmp_path / "wrong", "not-the-pin")
    assert "the PIN is wrong. It was tried once" in refusal(capsys, approve.add, *command, "--pin-file", wrong)
    new_process()
    assert "it refused the PIN before" in refusal(capsys, approve.add, *command, "--pin-file", soft_token.pin_file)
    home.refused_pin_path.unlink()
    soft_token.pull_out()
    new_process()
    assert "it is not there" in refusal(capsys, approve.add, *command, "--pin-file", soft_token.pin_file)
    assert contents(home.directory) == before
    soft_token.put_back()
    new_process()
    printed(capsys, approve.add, *command, "--pin-file", soft_token.pin_file)
    assert EnrolmentPackage.from_json(out.read_bytes()).hub == home.public_keys()
    new_process()
    soft_token.pull_out()
    assert "the hub's audit log is whole" in printed(capsys, verify.add, "verify", "--home", home.directory)


def test_the_processes_that_sign_get_the_pin_and_the_gateway_does_not(
    home: HubDirectory, soft_token: SoftToken
) -> None:
    read_pin_from(soft_token.pin_file)
    services = {service.name: service for service in prepare_services(home)}
    assert json.loads(services["superexec"].given or b"") == {"pin": PIN.encode().hex()}
    assert services["superlink"].given is None
    assert services["gateway"].given is None
    assert PIN not in repr(services)

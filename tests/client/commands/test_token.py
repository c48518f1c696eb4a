"""An institution whose signing key is in a token: it is made there, and its PIN is read as a passphrase is."""

import io
import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from client.commands import budget, init, join, passphrase, start
from client.institution.directory import InstitutionDirectory
from client.institution.paths import Slot
from client.node.processes import services
from common.errors import TokenError
from common.flower.bundle import bundle_sha256
from common.identity import keyring
from common.identity.authority import Authority
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.identity.passphrase import read_passphrase_from
from common.identity.pin import read_pin_from
from tests.client.commands.institution_commands import printed, refusal
from tests.passphrases import fresh_process, passphrase_file
from tests.soft_tokens import MODULE, PIN, SoftToken, forget_sessions, needs_softhsm

pytestmark = needs_softhsm


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def new_process() -> None:
    """Hold no PIN, no secret and no session, as a new process does."""
    keyring._held.clear()
    forget_sessions()


@pytest.fixture
def home(soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> InstitutionDirectory:
    text = printed(capsys, init.add, "init", "--home", tmp_path / "bank", "--name", "bank", *soft_token.options())
    assert "The signing key is fedfin-bank in the token bank, and nothing else can sign." in text
    new_process()
    return InstitutionDirectory(tmp_path / "bank")


def test_init_makes_the_key_in_the_token_and_joins_with_it(
    home: InstitutionDirectory, soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.settings().token == soft_token.settings()
    request = EnrolmentRequest.from_json(home.request_path.read_bytes())  # verifies its signature
    assert request.keys == home.public_keys()
    hub, authority = PrivateKeys.generate("hub"), Authority.create(tmp_path / "authority", "authority")
    certificate = authority.issue_client(request.csr, "bank", timedelta(days=30))
    package = EnrolmentPackage.make(hub, request, certificate, authority.pem, "127.0.0.1:1", bundle_sha256())
    (tmp_path / "package.json").write_text(package.to_json())
    given = ("--fingerprint", package.fingerprint, "--home", home.directory)
    printed(capsys, join.add, "join", tmp_path / "package.json", *given)
    assert home.package() == package


def test_the_files_alone_cannot_sign(home: InstitutionDirectory, soft_token: SoftToken) -> None:
    read_pin_from(soft_token.pin_file)
    keys = home.keys()
    data = b"spoken in the name of the bank"
    home.public_keys().signing_key.verify(keys.signing_key.sign(data), data)
    new_process()
    soft_token.pull_out()
    read_pin_from(soft_token.pin_file)
    with pytest.raises(TokenError, match="it is not there"):
        home.keys()
    fields = json.loads((home.keys_path / "private.json").read_text())
    assert set(fields) == {"format", "name", "public_signing", "mlkem768", "x25519"}
    assert fields["public_signing"] == home.public_keys().signing.hex()


def test_an_interrupted_init_continues_with_the_key_that_it_made(
    home: InstitutionDirectory, soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = home.public_keys().signing
    home.request_path.unlink()
    arguments = ("--name", "bank", *soft_token.options())
    printed(capsys, init.add, "init", "--home", home.directory, *arguments)
    assert EnrolmentRequest.from_json(home.request_path.read_bytes()).keys.signing == known
    new_process()
    given = ("--name", "bank", "--renew", "--pin-file", soft_token.pin_file)
    printed(capsys, init.add, "init", "--home", home.directory, *given)
    new_process()
    printed(capsys, init.add, "init", "--home", tmp_path / "again", *arguments)
    assert home.public_keys().signing == InstitutionDirectory(tmp_path / "again").public_keys().signing == known


def test_options_of_init_that_do_not_go_together_write_nothing(
    soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("init", "--home", tmp_path / "bank", "--name", "bank")
    named = ("--token", "bank", "--token-module", MODULE)
    for more, words in (
        (("--token", "bank"), "give --token-module FILE too"),
        (("--token-module", MODULE), "give --token LABEL too"),
        (("--pin-file", soft_token.pin_file), "give --token LABEL too, to keep"),
        (("--renew", *named), "a key in a token is another identity"),
        (named, "it asks for a PIN: give --pin-file FILE"),
        (("--token", "vault", *named[2:], "--pin-file", soft_token.pin_file), "token vault: it is not there"),
        (("--token", "bank", "--token-module", "/no.so"), "/no.so: there is no such PKCS#11 module: correct its path"),
    ):
        assert words in refusal(capsys, init.add, *arguments, *more)
        new_process()
        assert not (tmp_path / "bank").exists()


def test_start_tries_a_wrong_pin_once_however_often_it_is_started_again(
    home: InstitutionDirectory, soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.settings_path.write_text(home.settings_path.read_text() + '\n[data]\ntrain = "rows.csv"\n')
    wrong = passphrase_file(tmp_path / "wrong", "not-the-pin")
    arguments = ("start", "--home", home.directory, "--pin-file")
    line = refusal(capsys, start.add, *arguments, wrong)
    assert "token bank: the PIN is wrong. It was tried once, and the token may lock after a few more" in line
    for file in (wrong, soft_token.pin_file):
        new_process()
        line = refusal(capsys, start.add, *arguments, file)
        assert "it refused the PIN before" in line
        assert str(home.refused_pin_path) in line
    home.refused_pin_path.unlink()
    assert "not joined yet" in refusal(capsys, start.add, *arguments, soft_token.pin_file)  # the next step of start


def test_settings_and_keys_that_disagree_are_one_line(
    home: InstitutionDirectory, soft_token: SoftToken, capsys: pytest.CaptureFixture[str]
) -> None:
    text = home.settings_path.read_text() + '\n[data]\ntrain = "rows.csv"\n'
    arguments = ("start", "--home", home.directory, "--pin-file", soft_token.pin_file)
    for old, new, words in (
        ('key = "fedfin-bank"', 'key = "other"', "it holds no key with the label other"),
        ('label = "bank"', 'label = ""', 'token.label is "": use a text'),
        ("[token]", "[tokens]", "[tokens] is not a known section: did you mean token?"),
        (f'module = "{MODULE}"', 'module = "libsofthsm2.so"', "token.module is no absolute path"),
        (text[text.index("[token]") : text.index("\n[data]\ntrain")], "", "its signing key is in a token, and"),
    ):
        assert text.count(old) == 1
        home.settings_path.write_text(text.replace(old, new))
        assert words in refusal(capsys, start.add, *arguments)


def test_the_agent_is_given_the_pin_and_no_other_process(home: InstitutionDirectory, soft_token: SoftToken) -> None:
    read_pin_from(soft_token.pin_file)
    home.keys()
    agent, *others = services(home, "all", "127.0.0.1:1")
    assert json.loads(agent.given or b"") == {"pin": PIN.encode().hex()}
    assert [other.given for other in others] == [None, None]
    assert PIN not in repr(agent)


def test_sealing_keys_can_be_encrypted_beside_a_key_in_a_token(
    home: InstitutionDirectory, soft_token: SoftToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = passphrase_file(tmp_path / "new", "a passphrase of the bank")
    known = home.public_keys()
    given = ("--home", home.directory, "--new-passphrase-file", new, "--pin-file", soft_token.pin_file)
    printed(capsys, passphrase.add, "passphrase", *given)
    assert known.signing.hex() not in (home.keys_path / "private.json").read_text()
    new_process()
    read_pin_from(soft_token.pin_file)
    read_passphrase_from([new])
    assert home.keys().public == known
    home.secret(Slot.NODE)
    agent, *others = services(home, "all", "127.0.0.1:1")
    assert set(json.loads(agent.given or b"")) == {"keys", "pin"}
    assert PIN.encode().hex().encode() not in b"".join(other.given or b"" for other in others)


def test_the_ledger_is_verified_without_the_token(
    home: InstitutionDirectory, soft_token: SoftToken, capsys: pytest.CaptureFixture[str]
) -> None:
    soft_token.pull_out()
    printed(capsys, budget.add, "budget", "verify", "--home", home.directory)
    printed(capsys, budget.add, "budget", "show", "--home", home.directory)

"""A hub's private keys can be encrypted at any time, and every command that needs one asks for the passphrase."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.cli import Add
from common.errors import FedfinError, ServiceError
from common.files import write_atomic
from common.identity.authority import new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentRequest
from common.identity.keyring import recall
from common.identity.keys import PrivateKeys
from common.identity.passphrase import is_encrypted, read_passphrase_from
from common.identity.tls import server_context
from server.commands import approve, certs, init, passphrase, revoke, start
from server.gateway.services import prepare_services
from server.hub import passphrase as hub_passphrase
from server.hub.directory import HubDirectory
from server.hub.paths import Slot
from server.runs.status import starting
from tests.passphrases import fresh_process, passphrase_file
from tests.server.commands.hub_commands import contents, printed, refusal

OLD, NEW = "the old passphrase", "the new passphrase"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return passphrase_file(tmp_path / "old", OLD), passphrase_file(tmp_path / "new", NEW)


@pytest.fixture
def home(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> HubDirectory:
    """A hub whose keys were encrypted when they were made."""
    printed(capsys, init.add, "init", "--home", tmp_path / "hub", "--encrypt", "--passphrase-file", files[0])
    fresh_process(monkeypatch)
    return HubDirectory.open(tmp_path / "hub")


def key_files(home: HubDirectory) -> tuple[Path, Path, Path]:
    return home.keys_path / "private.json", home.directory / "ca" / "ca.key", home.server_key


def request_file(path: Path) -> tuple[Path, str]:
    node = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())
    request = EnrolmentRequest.make(PrivateKeys.generate("bank"), new_key_and_request("bank")[1], node)
    path.write_text(request.to_json())
    return path, request.fingerprint


def test_init_encrypts_every_private_key(home: HubDirectory) -> None:
    for path in key_files(home):
        assert is_encrypted(path)
        assert path.stat().st_mode & 0o077 == 0
    written = {
        path for path in home.directory.rglob("*") if path.is_file() and b"BEGIN PRIVATE KEY" in path.read_bytes()
    }
    assert written == set()


def test_a_passphrase_without_encrypt_makes_no_hub(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, init.add, "init", "--home", tmp_path / "hub", "--passphrase-file", files[0])
    assert "give --encrypt too" in line
    short = passphrase_file(tmp_path / "short", "short")
    given = ("--encrypt", "--passphrase-file", short)
    assert "at least 12 characters" in refusal(capsys, init.add, "init", "--home", tmp_path / "hub", *given)
    assert not (tmp_path / "hub").exists()


def test_commands_work_with_the_passphrase_and_change_nothing_without_it(
    home: HubDirectory,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request, fingerprint = request_file(tmp_path / "request.json")
    commands: list[tuple[Add, tuple[object, ...]]] = [
        (approve.add, ("approve", request, "--fingerprint", fingerprint)),
        (certs.add, ("certs", "--rotate", "server", "--rotate", "bank")),
        (revoke.add, ("revoke", "bank")),
    ]
    for add, arguments in commands:
        before = contents(home.directory)
        for given, message in (((), "are encrypted"), (("--passphrase-file", files[1]), "does not open")):
            line = refusal(capsys, add, *arguments, "--home", home.directory, *given)
            assert message in line
            assert contents(home.directory) == before
        printed(capsys, add, *arguments, "--home", home.directory, "--passphrase-file", files[0])
        fresh_process(monkeypatch)
        assert is_encrypted(home.server_key)
    for add, command in ((start.add, "start"), (passphrase.add, "passphrase")):
        assert "are encrypted" in refusal(capsys, add, command, "--home", home.directory)


def test_a_change_of_the_passphrase_replaces_one_file(
    home: HubDirectory, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = files
    before = contents(home.directory)
    change = ("passphrase", "--home", home.directory, "--new-passphrase-file", new)
    assert "does not open" in refusal(capsys, passphrase.add, *change, "--passphrase-file", new)
    assert contents(home.directory) == before
    fresh_process(monkeypatch)
    printed(capsys, passphrase.add, *change, "--passphrase-file", old)
    after = contents(home.directory)
    logs = {"audit.jsonl", "audit.jsonl.head"}
    assert {name for name in after if after[name] != before.get(name)} - logs == {"passphrase.json"}
    fresh_process(monkeypatch)
    read_passphrase_from([old])
    with pytest.raises(FedfinError, match="does not open"):
        home.keys()
    read_passphrase_from([new])
    assert home.keys().public == home.public_keys()


def test_the_keys_of_a_started_hub_are_not_encrypted(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    before = [path.read_bytes() for path in key_files(home)]
    command = ("passphrase", "--home", home.directory, "--new-passphrase-file", files[0])
    with starting(home):
        assert "the hub is started: stop it" in refusal(capsys, passphrase.add, *command)
    assert not home.lock_path.exists()
    assert [path.read_bytes() for path in key_files(home)] == before


def test_an_interrupted_encryption_leaves_a_hub_that_works_and_is_continued(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    public = home.keys().public
    whole = write_atomic

    def broken(path: Path, *arguments: object, **named: object) -> None:
        if path == home.server_key:
            raise KeyboardInterrupt
        whole(path, *arguments, **named)

    monkeypatch.setattr(hub_passphrase, "write_atomic", broken)
    with pytest.raises(KeyboardInterrupt):
        hub_passphrase.set_passphrase(home, OLD.encode)
    assert [is_encrypted(path) for path in key_files(home)] == [True, True, False]
    fresh_process(monkeypatch)
    read_passphrase_from([files[0]])
    assert home.keys().public == public
    server_context(home.server_certificate, home.server_key, home.authority_certificate, home.secret(Slot.GATEWAY))
    monkeypatch.setattr(hub_passphrase, "write_atomic", whole)
    fresh_process(monkeypatch)
    given = ("--passphrase-file", files[0], "--new-passphrase-file", files[1])
    printed(capsys, passphrase.add, "passphrase", "--home", home.directory, *given)
    assert all(is_encrypted(path) for path in key_files(home))


def test_no_process_of_the_hub_gets_the_passphrase_or_a_secret_that_it_does_not_need(
    home: HubDirectory, files: tuple[Path, Path]
) -> None:
    read_passphrase_from([files[0]])
    services = {service.name: service for service in prepare_services(home)}
    secrets = {slot: (home.secret(slot) or b"").hex().encode() for slot in Slot}
    got = {name: {slot for slot in Slot if secrets[slot] in (each.given or b"")} for name, each in services.items()}
    assert got == {"superlink": set(), "superexec": {Slot.KEYS}, "gateway": {Slot.GATEWAY}}
    for each in services.values():
        shown = " ".join([*each.command, *each.environment.values(), repr(each), (each.given or b"").decode()])
        assert OLD not in shown
        assert not any(
            secret.decode() in " ".join([*each.command, *each.environment.values(), repr(each)])
            for secret in secrets.values()
        )


def test_start_closes_its_memory_before_it_opens_a_secret(
    home: HubDirectory, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bytes | None] = []

    def close() -> None:
        held.append(recall(home.lock_path, Slot.KEYS))

    def prepare(_: HubDirectory) -> None:
        home.secret(Slot.KEYS)
        raise ServiceError("enough was started")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("common.processes.inspection.forbid_inspection", close)
    monkeypatch.setattr("server.gateway.services.prepare_services", prepare)
    given = ("--home", home.directory, "--passphrase-file", files[0])
    assert "enough" in refusal(capsys, start.add, "start", *given)
    assert held == [None]

"""An institution's private keys can be encrypted at any time. Agent and node are each given their own."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client.commands import finetune, init, join, passphrase, start
from client.institution import passphrase as institution_passphrase
from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import make_request
from client.institution.node_keys import load_node_key, write_node_key
from client.institution.paths import Slot
from client.node import connection
from client.node.flower_node import node_key_file
from client.node.processes import Part, lock_path, services, single_instance_lock, state_path
from common.errors import PassphraseError, ServiceError
from common.identity.authority import node_key_text
from common.identity.enrolment import EnrolmentRequest
from common.identity.keyring import recall
from common.identity.passphrase import is_encrypted, read_passphrase_from
from common.identity.tls import client_context
from tests.client.commands.institution_commands import printed, refusal
from tests.client.enrolled import enrol
from tests.passphrases import fresh_process, passphrase_file

OLD, NEW = "the old passphrase", "the new passphrase"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return passphrase_file(tmp_path / "old", OLD), passphrase_file(tmp_path / "new", NEW)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An institution that has joined a hub, with keys that are not encrypted."""
    return enrol(tmp_path_factory.mktemp("made")).home.directory


@pytest.fixture
def plain(made: Path, tmp_path: Path) -> InstitutionDirectory:
    return InstitutionDirectory(shutil.copytree(made, tmp_path / "bank"))


@pytest.fixture
def home(
    plain: InstitutionDirectory, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> InstitutionDirectory:
    """The same with encrypted keys."""
    institution_passphrase.set_passphrase(plain, OLD.encode)
    fresh_process(monkeypatch)
    return plain


def key_files(home: InstitutionDirectory) -> tuple[Path, Path, Path]:
    return home.keys_path / "private.json", home.tls_key_path, home.node_key_path


def public_node_key(home: InstitutionDirectory) -> str:
    return EnrolmentRequest.from_json(home.request_path.read_bytes()).node_key


def test_init_and_renewal_leave_no_plain_private_key(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, given = InstitutionDirectory(tmp_path / "bank"), ("--passphrase-file", files[0])
    name = ("init", "--home", home.directory, "--name", "bank")
    assert "give --encrypt too" in refusal(capsys, init.add, *name, *given)
    assert not home.directory.exists()
    printed(capsys, init.add, *name, "--encrypt", *given)
    before = home.request_path.read_bytes(), *(path.read_bytes() for path in key_files(home))
    assert all(is_encrypted(path) for path in key_files(home))
    fresh_process(monkeypatch)
    assert "are encrypted" in refusal(capsys, init.add, *name, "--renew")
    assert "fedfin-institution passphrase" in refusal(capsys, init.add, *name, "--renew", "--encrypt")
    assert (home.request_path.read_bytes(), *(path.read_bytes() for path in key_files(home))) == before
    printed(capsys, init.add, *name, "--renew", *given)
    assert all(is_encrypted(path) for path in key_files(home))
    assert home.tls_key_path.read_bytes() != before[2]
    words = (b"BEGIN PRIVATE", b"BEGIN OPENSSH", b"mlkem768", OLD.encode())
    written = [path for path in home.directory.rglob("*") if path.is_file()]
    assert [path for path in written if any(word in path.read_bytes() for word in words)] == []


def test_commands_that_need_a_key_say_so_in_one_line(
    home: InstitutionDirectory, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package.json"
    package.write_bytes(home.package_path.read_bytes())
    rows = home.directory / "rows.csv"
    test = tmp_path / "test.csv"
    test.write_text("text,label\nloss of the quarter,negative\nprofit of the quarter,positive\n")
    tune = ("finetune", "--task", "sentiment_analysis", "--train", rows, "--test", test, "--out", tmp_path / "out")
    private = (*tune, "--target-epsilon", "4")
    for add, arguments in ((join.add, ("join", package)), (start.add, ("start",)), (finetune.add, private)):
        assert "are encrypted" in refusal(capsys, add, *arguments, "--home", home.directory)
        given = ("--passphrase-file", files[1])
        assert "does not open" in refusal(capsys, add, *arguments, "--home", home.directory, *given)
        read_passphrase_from([])
    assert not (tmp_path / "out").exists()
    printed(capsys, join.add, "join", package, "--home", home.directory, "--passphrase-file", files[0])


def test_agent_and_node_can_have_different_passphrases(
    home: InstitutionDirectory,
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = files
    before = [path.read_bytes() for path in key_files(home)]
    change = ("passphrase", "--only", "node", "--home", home.directory, "--new-passphrase-file", new)
    printed(capsys, passphrase.add, *change, "--passphrase-file", old)
    assert [path.read_bytes() for path in key_files(home)] == before
    fresh_process(monkeypatch)
    read_passphrase_from([new])
    assert home.secret(Slot.NODE)
    with pytest.raises(PassphraseError, match="does not open"):
        home.keys()
    read_passphrase_from([old, new])
    assert home.keys().public == home.public_keys()


@pytest.mark.parametrize("only", ["agent", "node"])
def test_a_first_passphrase_leaves_no_plain_private_key(
    plain: InstitutionDirectory, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], only: str
) -> None:
    change = ("passphrase", "--only", only, "--home", plain.directory, "--new-passphrase-file", files[1])
    printed(capsys, passphrase.add, *change)
    assert all(is_encrypted(path) for path in key_files(plain))


def test_an_interrupted_encryption_leaves_an_institution_that_works_and_is_continued(
    plain: InstitutionDirectory, monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path]
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    whole = write_node_key
    monkeypatch.setattr(institution_passphrase, "write_node_key", broken)
    with pytest.raises(KeyboardInterrupt):
        institution_passphrase.set_passphrase(plain, OLD.encode)
    assert [is_encrypted(path) for path in key_files(plain)] == [True, True, False]
    fresh_process(monkeypatch)
    read_passphrase_from([files[0]])
    assert plain.keys().public == plain.public_keys()
    client_context(plain.tls / "client.pem", plain.tls_key_path, plain.tls / "ca.pem", plain.secret(Slot.NODE))
    assert node_key_file(plain) == str(plain.node_key_path)
    monkeypatch.setattr(institution_passphrase, "write_node_key", whole)
    institution_passphrase.set_passphrase(plain, NEW.encode)
    assert all(is_encrypted(path) for path in key_files(plain))


@pytest.mark.parametrize("part", ["all", "agent", "node"])
def test_keys_are_not_encrypted_below_processes_that_would_not_know_the_passphrase(
    plain: InstitutionDirectory, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], part: Part
) -> None:
    command = ("passphrase", "--home", plain.directory, "--new-passphrase-file", files[0])
    before = [path.read_bytes() for path in key_files(plain)]
    with single_instance_lock(lock_path(plain, part), "this institution"):
        assert "it is started: stop it" in refusal(capsys, passphrase.add, *command)
    assert not plain.lock_path.exists()
    assert [path.read_bytes() for path in key_files(plain)] == before


def test_the_state_that_a_killed_start_left_behind_does_not_count_as_started(plain: InstitutionDirectory) -> None:
    with subprocess.Popen(["true"]) as killed:
        pass
    path = state_path(plain, "all")
    path.parent.mkdir(exist_ok=True)
    services = [{"name": "agent", "pid": killed.pid, "restarts": 0, "log": ""}]
    path.write_text(json.dumps({"supervisor": killed.pid, "services": services}))
    institution_passphrase.set_passphrase(plain, OLD.encode)
    assert all(is_encrypted(path) for path in key_files(plain))


def test_each_process_gets_the_secret_of_its_own_keys_and_no_passphrase(
    home: InstitutionDirectory, files: tuple[Path, Path]
) -> None:
    read_passphrase_from([files[0]])
    secrets = {slot: (home.secret(slot) or b"").hex() for slot in Slot}
    started = services(home, "all", "127.0.0.1:1")
    got = {each.name: json.loads(each.given or b"{}") for each in started}
    assert got == {"agent": {"keys": secrets[Slot.KEYS]}, "supernode": {"node": secrets[Slot.NODE]}, "superexec": {}}
    for each in started:
        shown = " ".join([*each.command, *each.environment.values(), repr(each)])
        assert not any(word in shown for word in (OLD, *secrets.values()))


def test_a_node_alone_needs_no_passphrase_of_the_agents_keys(
    home: InstitutionDirectory, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_passphrase_from([files[0]])
    assert home.secret(Slot.NODE)
    assert recall(home.lock_path, Slot.KEYS) is None
    assert [each.name for each in services(home, "node", "127.0.0.1:1")] == ["supernode", "superexec"]


def test_the_start_of_a_node_closes_its_memory_before_it_opens_a_secret(
    home: InstitutionDirectory, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    held: list[bytes | None] = []

    def close() -> None:
        held.append(recall(home.lock_path, Slot.NODE))

    def begin(*_: object) -> None:
        assert recall(home.lock_path, Slot.NODE)
        raise ServiceError("enough was started")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("common.processes.inspection.forbid_inspection", close)
    monkeypatch.setattr(start, "_keep_running", begin)
    given = ("--home", home.directory, "--only", "node", "--passphrase-file", files[0])
    assert "enough" in refusal(capsys, start.add, "start", *given)
    assert held == [None]


def test_flower_reads_the_decrypted_node_key_from_a_pipe_once(
    home: InstitutionDirectory, files: tuple[Path, Path]
) -> None:
    read_passphrase_from([files[0]])
    home.secret(Slot.NODE)
    place = node_key_file(home)
    key = load_node_key(Path(place).read_bytes())
    assert place.startswith("/dev/fd/")
    assert node_key_text(key.public_key()) == public_node_key(home)
    with pytest.raises(ValueError, match="decrypt"):
        load_pem_private_key(home.node_key_path.read_bytes(), OLD.encode())


def test_status_says_that_it_lacks_the_passphrase_and_does_not_ask(home: InstitutionDirectory) -> None:
    assert "was not given its passphrase" in connection.describe(home, "127.0.0.1:1")


def test_the_nodes_group_can_read_the_lock(plain: InstitutionDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(institution_passphrase, "secret_mode", lambda _: 0o640)
    institution_passphrase.set_passphrase(plain, OLD.encode)
    assert plain.lock_path.stat().st_mode & 0o777 == 0o640
    institution_passphrase.set_passphrase(plain, NEW.encode)
    assert plain.lock_path.stat().st_mode & 0o777 == 0o640


def test_an_interrupted_init_keeps_its_passphrase(tmp_path: Path, files: tuple[Path, Path]) -> None:
    home = InstitutionDirectory.create(tmp_path / "bank", "bank", OLD.encode())
    make_request(home.directory, "bank", passphrase=OLD.encode())
    assert all(is_encrypted(path) for path in key_files(home))

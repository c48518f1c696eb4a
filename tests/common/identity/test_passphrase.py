"""Key files are opened by the passphrase and by nothing else, and no passphrase is ever seen by other processes."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from common.errors import FedfinError, PassphraseError
from common.identity import keyring
from common.identity.authority import Authority, new_key_and_request
from common.identity.keys import PrivateKeys
from common.identity.passphrase import (
    Lock,
    changed_passphrase,
    forget,
    is_encrypted,
    new_passphrase,
    read_passphrase_from,
    unlock,
)
from common.identity.x509 import load_key
from tests.passphrases import fresh_process, passphrase_file

RIGHT, WRONG, NEW = "right passphrase", "wrong passphrase", "another passphrase"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No secrets from another test, and a stretch that takes no time."""
    fresh_process(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO())


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return Lock.create(tmp_path / "passphrase.json", ("keys", "node"), RIGHT.encode()).path


def test_the_right_passphrase_alone_opens_the_secrets(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [unlock(lock, slot) for slot in ("keys", "node")]
    assert made[0] != made[1]
    assert all(secret.hex() not in lock.read_text() for secret in made if secret)
    fresh_process(monkeypatch)
    read_passphrase_from([passphrase_file(tmp_path / "wrong", WRONG)])
    with pytest.raises(PassphraseError, match="does not open the private keys"):
        unlock(lock, "keys")
    read_passphrase_from([tmp_path / "wrong", passphrase_file(tmp_path / "right", RIGHT)])
    assert [unlock(lock, slot) for slot in ("keys", "node")] == made


def test_a_secret_is_of_no_use_under_the_name_of_another(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads(lock.read_text())
    fields["keys"], fields["node"] = fields["node"], fields["keys"]
    lock.write_text(json.dumps(fields))
    fresh_process(monkeypatch)
    read_passphrase_from([passphrase_file(lock.with_name("right"), RIGHT)])
    with pytest.raises(PassphraseError):
        unlock(lock, "keys")


def test_without_a_lock_no_passphrase_is_asked_for(tmp_path: Path) -> None:
    assert unlock(tmp_path / "passphrase.json", "keys") is None


def test_a_missing_passphrase_is_one_line_that_names_all_ways(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    with pytest.raises(PassphraseError, match=r"--passphrase-file FILE, set the systemd credential fedfin-passphrase"):
        unlock(lock, "keys")


def test_systemd_gives_the_passphrase_and_an_option_goes_before_it(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_process(monkeypatch)
    passphrase_file(tmp_path / "fedfin-passphrase", RIGHT, mode=0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert unlock(lock, "keys") is not None
    fresh_process(monkeypatch)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    read_passphrase_from([passphrase_file(tmp_path / "wrong", WRONG)])
    with pytest.raises(PassphraseError):
        unlock(lock, "keys")


def test_a_process_that_is_started_later_is_not_told_where_the_passphrase_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_process(monkeypatch)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    forget()
    assert str(tmp_path) not in os.environ.values()


def test_the_passphrase_itself_is_not_taken_from_the_environment(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    for name in ("FEDFIN_PASSPHRASE", "CREDENTIALS_DIRECTORY", "fedfin-passphrase"):
        monkeypatch.setenv(name, RIGHT)
    with pytest.raises(PassphraseError):
        unlock(lock, "keys")


def test_the_terminal_is_asked_once_for_all_secrets_of_one_passphrase(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_process(monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return RIGHT

    monkeypatch.setattr("getpass.getpass", answer)
    assert unlock(lock, "keys")
    assert unlock(lock, "node")
    assert len(asked) == 1
    fresh_process(monkeypatch)
    monkeypatch.setattr("getpass.getpass", lambda prompt: WRONG)
    with pytest.raises(PassphraseError, match="try again"):
        unlock(lock, "keys")


@pytest.mark.parametrize("stop", [EOFError(), UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "pass\udce9"])
def test_a_terminal_that_gives_no_text_is_one_line(
    lock: Path, monkeypatch: pytest.MonkeyPatch, stop: Exception | str
) -> None:
    def answer(prompt: str) -> str:
        if isinstance(stop, str):
            return stop
        raise stop

    fresh_process(monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", answer)
    for ask in (new_passphrase, lambda: unlock(lock, "keys")):
        with pytest.raises(PassphraseError, match="no passphrase was typed"):
            ask()


def test_without_a_standard_input_a_missing_passphrase_is_one_line(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(PassphraseError, match="give --passphrase-file"):
        unlock(lock, "keys")
    with pytest.raises(PassphraseError, match="no new one is given"):
        new_passphrase()


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [(RIGHT, 0o640, "chmod 600"), ("", 0o600, "empty"), ("x" * 5000, 0o600, "no file of one line")],
)
def test_a_file_that_others_may_read_or_that_holds_none_is_refused(
    lock: Path, monkeypatch: pytest.MonkeyPatch, content: str, mode: int, message: str
) -> None:
    fresh_process(monkeypatch)
    read_passphrase_from([passphrase_file(lock.with_name("given"), content, mode)])
    with pytest.raises(PassphraseError, match=message) as error:
        unlock(lock, "keys")
    assert "\n" not in str(error.value)


def test_a_new_passphrase_is_long_enough_and_typed_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match="no new one is given"):
        new_passphrase()
    with pytest.raises(PassphraseError, match="at least 12 characters"):
        changed_passphrase(passphrase_file(tmp_path / "short", "elevenchars"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter([NEW, WRONG, NEW, NEW])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    with pytest.raises(PassphraseError, match="differ"):
        changed_passphrase(None)
    assert changed_passphrase(None) == NEW.encode()


def test_a_change_keeps_the_secrets_and_ends_the_old_passphrase(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {slot: unlock(lock, slot) for slot in ("keys", "node")}
    Lock.read(lock).change(("keys",), NEW.encode())
    fresh_process(monkeypatch)
    read_passphrase_from([passphrase_file(tmp_path / "old", RIGHT)])
    assert unlock(lock, "node") == before["node"]
    with pytest.raises(PassphraseError):
        unlock(lock, "keys")
    read_passphrase_from([passphrase_file(tmp_path / "new", NEW)])
    assert unlock(lock, "keys") == before["keys"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b'{"format":"fedfin-passphrase-1","keys":3}', {"cost": 2**30}, {"cost": 3}, {"nonce": "xy"}],
    ids=["empty", "no format", "no secret", "1 TiB of memory", "no power of two", "no hex"],
)
def test_a_damaged_lock_is_one_line(
    lock: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | dict[str, Any]
) -> None:
    fields: dict[str, Any] = json.loads(lock.read_text())
    if isinstance(damage, dict):
        fields["keys"] |= damage
    lock.write_bytes(json.dumps(fields).encode() if isinstance(damage, dict) else damage)
    fresh_process(monkeypatch)
    with pytest.raises(PassphraseError, match="restore it from its backup"):
        unlock(lock, "keys")


@pytest.mark.parametrize("field", ["salt", "nonce", "sealed"])
def test_a_lock_with_a_shortened_field_is_damaged(lock: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    fields: dict[str, Any] = json.loads(lock.read_text())
    fields["keys"][field] = fields["keys"][field][:6]
    lock.write_text(json.dumps(fields))
    fresh_process(monkeypatch)
    read_passphrase_from([passphrase_file(lock.with_name("right"), RIGHT)])
    with pytest.raises(PassphraseError, match="damaged: restore it from its backup"):
        unlock(lock, "keys")


def test_encrypted_key_files_show_no_key_and_open_with_their_secret(tmp_path: Path) -> None:
    secret, other = b"s" * 32, b"o" * 32
    keys = PrivateKeys.generate("bank")
    keys.save(tmp_path / "keys", secret)
    Authority.create(tmp_path / "ca", "authority", secret)
    pem, _ = new_key_and_request("bank", secret)
    private = tmp_path / "keys" / "private.json"
    assert is_encrypted(private)
    assert is_encrypted(tmp_path / "ca" / "ca.key")
    assert keys.signing.hex() not in private.read_text()
    assert PrivateKeys.load(tmp_path / "keys", secret) == keys
    assert load_key(pem, secret)
    keys.save(tmp_path / "keys", secret)
    for wrong in (None, other):
        for use in (
            lambda key=wrong: PrivateKeys.load(tmp_path / "keys", key),
            lambda key=wrong: Authority.load(tmp_path / "ca", key),
            lambda key=wrong: load_key(pem, key),
            lambda key=wrong: PrivateKeys.generate("bank").save(tmp_path / "keys", key),
        ):
            with pytest.raises(PassphraseError) as error:
                use()
            assert "\n" not in str(error.value)
    with pytest.raises(FedfinError, match="other keys are there"):
        PrivateKeys.generate("bank").save(tmp_path / "keys", secret)


def test_a_process_gets_the_secrets_that_it_needs_and_no_other(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = unlock(lock, "node")
    given = keyring.hand_over(lock, ["node"])
    assert given is not None
    assert RIGHT.encode() not in given
    fresh_process(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO(given.decode()))
    assert keyring.receive(lock)
    assert keyring.recall(lock, "node") == secret
    assert keyring.recall(lock, "keys") is None
    with pytest.raises(PassphraseError, match="was not given their secret"):
        keyring.hand_over(lock, ["node", "keys"])


def test_other_text_on_standard_input_is_no_secret(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_process(monkeypatch)
    for text in ("", "[]", "{", '{"keys": 3}', '{"keys": "xy"}'):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert not keyring.receive(lock)
    assert keyring.hand_over(lock.with_name("absent.json"), ["keys"]) is None


def test_no_secret_is_read_from_a_terminal(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = keyring.hand_over(lock, ["keys"]) or b""
    fresh_process(monkeypatch)
    terminal = io.StringIO(given.decode())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert not keyring.receive(lock)
    assert keyring.recall(lock, "keys") is None
    monkeypatch.setattr("sys.stdin", io.StringIO(given.decode()))
    assert keyring.receive(lock)

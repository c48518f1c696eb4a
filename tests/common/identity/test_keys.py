"""Keys: private ones stay private, damaged ones are refused in one line."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EnvelopeError
from common.identity.keys import PrivateKeys
from common.protocol.envelope import PublicKeys

KEYS = PrivateKeys.generate("north_bank")


def code_of(call) -> str:
    with pytest.raises(EnvelopeError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_saved_keys_load_again_and_only_their_owner_may_touch_them(tmp_path: Path) -> None:
    directory = tmp_path / "bank" / "keys"
    KEYS.save(directory)
    assert PrivateKeys.load(directory) == KEYS
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "private.json").stat().st_mode) == 0o600
    assert PublicKeys.from_json((directory / "public.json").read_text()) == KEYS.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o777, 0o610])
def test_a_key_file_that_others_may_touch_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    KEYS.save(tmp_path)
    (tmp_path / "private.json").chmod(mode)
    with pytest.raises(EnvelopeError, match=r"private\.json: others may read it .*chmod 600") as caught:
        PrivateKeys.load(tmp_path)
    assert caught.value.code == "permissions"


def test_saving_never_overwrites_other_keys_but_may_repeat_the_same(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    KEYS.save(tmp_path)
    assert code_of(lambda: PrivateKeys.generate("north_bank").save(tmp_path)) == "keys"
    assert PrivateKeys.load(tmp_path) == KEYS


def test_a_directory_that_was_open_is_closed_before_a_key_is_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    KEYS.save(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_private_keys_do_not_show() -> None:
    shown = repr(KEYS) + str(KEYS) + KEYS.public.to_json()
    for secret in (KEYS.signing, KEYS.mlkem768, KEYS.x25519):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_the_public_file_holds_no_private_key(tmp_path: Path) -> None:
    KEYS.save(tmp_path)
    text = (tmp_path / "public.json").read_text()
    assert not any(secret.hex() in text for secret in (KEYS.signing, KEYS.mlkem768, KEYS.x25519))


def test_an_absent_file_a_directory_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    assert code_of(lambda: PrivateKeys.load(tmp_path / "nowhere")) == "keys"
    (tmp_path / "a" / "private.json").mkdir(parents=True)
    assert code_of(lambda: PrivateKeys.load(tmp_path / "a")) == "keys"
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "private.json", 0o600)
    assert code_of(lambda: PrivateKeys.load(tmp_path / "b")) == "keys"


def damaged() -> list[bytes]:
    fields = {
        "format": "fedfin-keys-1",
        "name": KEYS.name,
        "signing": KEYS.signing.hex(),
        "mlkem768": KEYS.mlkem768.hex(),
        "x25519": KEYS.x25519.hex(),
    }
    changes: list[dict[str, Any]] = [
        {key: value[:-2]} for key, value in fields.items() if key not in ("format", "name")
    ]
    changes += [
        {"name": "../up"},
        {"name": ""},
        {"name": 1},
        {"format": "fedfin-keys-2"},
        {"signing": None},
        {"x": "y"},
    ]
    changes += [{"x25519": "zz" * 32}]
    whole = [json.dumps({**fields, **change}).encode() for change in changes]
    whole += [json.dumps({k: v for k, v in fields.items() if k != missing}).encode() for missing in fields]
    return [*whole, b"", b"{}", b"[]", b"\xff", b"[" * 9000, b" " * 20_000, json.dumps(fields).encode()[:-5]]


@pytest.mark.parametrize("text", damaged())
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "private.json").write_bytes(text)
    (tmp_path / "private.json").chmod(0o600)
    assert code_of(lambda: PrivateKeys.load(tmp_path)) == "keys"


def test_public_keys_survive_their_json() -> None:
    assert PublicKeys.from_json(KEYS.public.to_json()) == KEYS.public


@given(st.text())
def test_random_text_is_no_public_key(text: str) -> None:
    assert code_of(lambda: PublicKeys.from_json(text)) == "keys"


@given(st.integers(0, len(KEYS.public.to_json()) - 1), st.characters())
def test_an_edited_public_key_has_another_fingerprint_or_is_refused(at: int, character: str) -> None:
    text = KEYS.public.to_json()
    edited = text[:at] + character + text[at + 1 :]
    try:
        public = PublicKeys.from_json(edited)
    except EnvelopeError:
        return
    assert (public == KEYS.public) == (public.fingerprint == KEYS.public.fingerprint)


def test_the_fingerprint_covers_the_name_and_both_keys() -> None:
    other = PrivateKeys.generate("south_bank").public
    public = KEYS.public
    variants = [
        public,
        PublicKeys(other.name, public.signing, public.sealing),
        PublicKeys(public.name, other.signing, public.sealing),
        PublicKeys(public.name, public.signing, other.sealing),
    ]
    assert len({each.fingerprint for each in variants}) == 4


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\n", "a\0b", "é", "x" * 129, ".hidden"])
def test_a_name_that_is_unsafe_in_a_path_or_a_log_is_refused(name: str) -> None:
    assert code_of(lambda: PrivateKeys.generate(name)) == "keys"


def test_the_fingerprint_key_is_stable_and_no_other_key() -> None:
    key = KEYS.fingerprint_key()
    assert key == KEYS.fingerprint_key()
    assert len(key) == 32
    assert key not in (KEYS.signing, KEYS.x25519, PrivateKeys.generate("north_bank").fingerprint_key())

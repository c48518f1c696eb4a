"""A PIN that was not typed is tried only if a refusal of it can be noted."""

import errno
from pathlib import Path
from typing import NoReturn

import pytest

from common.errors import TokenError
from common.identity import keyring, pin
from common.identity.pin import PinRefused, PinSource, read_pin_from


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinSource:
    monkeypatch.setattr(keyring, "_held", {})
    monkeypatch.setattr(pin, "_files", [])
    (tmp_path / "keys").mkdir()
    file = tmp_path / "pin"
    file.write_text("1234\n")
    file.chmod(0o600)
    read_pin_from(file)
    return PinSource(tmp_path / "passphrase.json", tmp_path / "keys" / "pin-refused")


def test_no_pin_is_tried_if_a_wrong_one_could_not_be_noted(pins: PinSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a service that starts again by itself would lock the token on a full disk."""
    tried: list[str] = []

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(text: str) -> NoReturn:
        tried.append(text)
        raise PinRefused

    with monkeypatch.context() as patch:
        patch.setattr(pin, "write_atomic", full)
        for _ in range(3):
            with pytest.raises(TokenError, match=r"a wrong PIN could not be noted there \(No space left on device\)"):
                pins.log_in("bank", refuse)
    assert tried == []
    for words in ("the PIN is wrong", "it refused the PIN before"):
        with pytest.raises(TokenError, match=words):
            pins.log_in("bank", refuse)
    assert tried == ["1234"]
    assert [path.name for path in pins.refused.parent.iterdir()] == ["pin-refused"]


def test_a_token_that_fails_otherwise_leaves_no_word_of_a_wrong_pin(pins: PinSource) -> None:
    def fail(_: str) -> NoReturn:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        pins.log_in("bank", fail)
    assert pins.log_in("bank", len) == 4
    assert list(pins.refused.parent.iterdir()) == []

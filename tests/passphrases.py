"""Passphrases for tests: files that hold them, and a process that has not opened anything yet."""

from pathlib import Path

import pytest

from common.identity import keyring, passphrase

__all__ = ["fresh_process", "passphrase_file"]


def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget every secret and passphrase, as a new process does, and stretch passphrases in no time."""
    monkeypatch.setattr(passphrase, "_COST", 2)
    monkeypatch.setattr(passphrase, "_files", [])
    monkeypatch.setattr(keyring, "_held", {})
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    passphrase.forget()


def passphrase_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a passphrase to a file, with a line end as an editor leaves it."""
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path

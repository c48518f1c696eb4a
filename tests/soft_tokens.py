"""Software tokens for tests: SoftHSM 2 with a directory of its own for each test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config.token import TokenSettings
from common.identity import pin, token

__all__ = ["MODULE", "PIN", "SoftToken", "needs_softhsm", "soft_token"]

PIN = "73915-pin"
_PLACES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
MODULE = next((Path(place) for place in _PLACES if Path(place).exists()), Path("/no/softhsm"))


def _is_installed() -> bool:
    try:
        import pkcs11  # noqa: F401
    except ImportError:
        return False
    return MODULE.exists() and shutil.which("softhsm2-util") is not None


needs_softhsm = pytest.mark.skipif(not _is_installed(), reason="needs fedfin[token] and Debian's softhsm2")


class SoftToken:
    """A directory of tokens, with one token of the label "bank"."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store, self.pin_file = directory / "tokens", directory / "pin"
        self.store.mkdir(parents=True)
        self.configuration = directory / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self.store}\nlog.level = ERROR\n")
        self.pin_file.write_text(f"{PIN}\n")
        self.pin_file.chmod(0o600)

    def add(self, label: str) -> None:
        """Make a token in a free slot."""
        command = ("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "5678-so")
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.configuration)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)

    def settings(self, key: str = "fedfin-bank", label: str = "bank") -> TokenSettings:
        return TokenSettings(module=MODULE, label=label, key=key)

    def options(self, key: str | None = None) -> list[str]:
        """The options of `init` for it."""
        named = [] if key is None else ["--token-key", key]
        return ["--token", "bank", "--token-module", str(MODULE), "--pin-file", str(self.pin_file), *named]

    def pull_out(self) -> None:
        """Take all tokens out of their slots."""
        (self.directory / "pulled-out").mkdir(exist_ok=True)
        for each in self.store.iterdir():
            each.rename(self.directory / "pulled-out" / each.name)

    def put_back(self) -> None:
        for each in (self.directory / "pulled-out").iterdir():
            each.rename(self.store / each.name)


def forget_sessions() -> None:
    """Log out, and load the module anew with the next key, as a new process does."""
    import pkcs11

    token._sessions.clear()
    token._owner = 0
    pin._files.clear()
    pkcs11.unload(str(MODULE))


@pytest.fixture
def soft_token(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    """A token, and a process that is not logged in to it."""
    made = SoftToken(tmp_path_factory.mktemp("token") / "hsm")
    made.add("bank")
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    forget_sessions()
    yield made
    forget_sessions()

"""Log in to a token by its PIN, and try no PIN again that the token refused.

A token locks after a few wrong PINs, and services start again by themselves. So a PIN that was not typed is tried once:
if the token refuses it, a file says so, and no process tries before a person has deleted that file or typed the PIN.

A PIN comes from a file, from the systemd credential `fedfin-token-pin`, or from the terminal. Processes that
`fedfin-hub start` and `fedfin-institution start` run get it through a pipe (see `common.identity.keyring`).
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.errors import TokenError
from common.files import write_atomic
from common.identity.keyring import PIN, recall, remember
from common.identity.secret_input import ask, has_terminal, read_credential, read_secret_file

__all__ = ["CREDENTIAL", "PinRefused", "PinSource", "read_pin_from"]

CREDENTIAL = "fedfin-token-pin"
"""Name of the systemd credential that holds the PIN."""
_NOUN = "PIN"
_REFUSED = "The token refused the PIN. It may lock after a few wrong ones. Correct the PIN, then delete this file.\n"

_files: list[Path] = []

T = TypeVar("T")


class PinRefused(Exception):
    """The token says that the PIN is wrong."""


def read_pin_from(file: Path) -> None:
    """Let `PinSource.log_in` read the PIN from this file, as `--pin-file` names it, and from nowhere else."""
    _files[:] = [file]


@dataclass(frozen=True)
class PinSource:
    """The PIN of the token of one hub or institution.

    Attributes:
        lock: The file of wrapped secrets, under whose path the process holds the PIN. It may be absent.
        refused: The file that says that the token refused the PIN.
    """

    lock: Path
    refused: Path

    def log_in(self, token: str, attempt: Callable[[str], T]) -> T:
        """Return the result of `attempt`, and hold the PIN from then on.

        Args:
            token: Label of the token, for messages.
            attempt: Logs in with a PIN, or raises PinRefused. It is called once.

        Raises:
            TokenError: There is no PIN, it is wrong, or a wrong one was not corrected. Or none was tried, because a
                wrong one could not be noted.
            PassphraseError: The file with the PIN cannot be used.
        """
        given = self._given()
        if given is not None and self.refused.exists():
            raise TokenError(
                f"token {token}: it refused the PIN before, and may lock after a few more tries: correct the PIN, and "
                f"delete {self.refused}"
            )
        if given is None and not has_terminal():
            raise TokenError(
                f"token {token}: it asks for a PIN: give --pin-file FILE, set the systemd credential {CREDENTIAL}, or "
                "run the command at a terminal"
            )
        pin = ask(f"PIN of token {token}: ", _NOUN) if given is None else given
        try:
            text = pin.decode()
        except UnicodeDecodeError:
            raise TokenError(f"token {token}: the PIN is no text in UTF-8: correct it") from None
        if not text:
            raise TokenError(f"token {token}: the PIN is empty: give one")
        draft = None if given is None else self._draft(token)
        try:
            result = attempt(text)
        except PinRefused:
            if draft is not None:
                with contextlib.suppress(FileNotFoundError):
                    draft.replace(self.refused)
            raise TokenError(
                f"token {token}: the PIN is wrong. It was tried once, and the token may lock after a few more: give "
                "the right one"
            ) from None
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)
        self.refused.unlink(missing_ok=True)
        remember(self.lock, PIN, pin)
        return result

    def _draft(self, token: str) -> Path | None:
        """Write the file that says that the PIN is wrong under another name, since a full disk could prevent it later.

        Return None if there is no directory yet: then it is a person who makes new keys.
        """
        if not self.refused.parent.is_dir():
            return None
        draft = self.refused.with_name(f"{self.refused.name}.{os.getpid()}")
        try:
            write_atomic(draft, _REFUSED.encode(), mode=0o600)
        except OSError as error:
            raise TokenError(
                f"token {token}: {self.refused.parent}: a wrong PIN could not be noted there ({error.strerror}), so "
                "none was tried: make room, or correct its rights"
            ) from None
        return draft

    def _given(self) -> bytes | None:
        """Return the PIN that can be had without asking. None if there is none."""
        if (held := recall(self.lock, PIN)) is not None:
            return held
        return read_secret_file(_files[0], _NOUN) if _files else read_credential(CREDENTIAL, _NOUN)

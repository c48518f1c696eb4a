"""Read a secret of one line from a file, from a systemd credential or from the terminal.

A secret is never an argument or an environment variable, which other processes can see.
"""

import getpass
import os
import sys
from pathlib import Path

from common.errors import PassphraseError
from common.files import read_limited

__all__ = ["ask", "forget_credentials", "has_terminal", "read_credential", "read_secret_file"]

_CREDENTIALS = "CREDENTIALS_DIRECTORY"
_MOST_BYTES = 1024


def read_secret_file(path: Path, noun: str, private: bool = True) -> bytes:
    """Return the first line of a file.

    Args:
        path: The file.
        noun: Name of the secret in messages: "passphrase" or "PIN".
        private: Whether the file must be the owner's alone.

    Raises:
        PassphraseError: It cannot be read, others may read it, or its first line is empty.
    """
    try:
        if private and path.stat().st_mode & 0o077:
            raise PassphraseError(f"{path}: others may read it: run chmod 600 on it")
        line = read_limited(path, _MOST_BYTES).split(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise PassphraseError(f"{path}: cannot be read ({error.strerror}): name a file with the {noun}") from None
    except ValueError:
        raise PassphraseError(f"{path}: no file of one line: name a file with the {noun}") from None
    if not line:
        raise PassphraseError(f"{path}: empty: name a file with the {noun}")
    return line


def read_credential(name: str, noun: str) -> bytes | None:
    """Return the first line of a systemd credential. None if there is none. Raises as `read_secret_file`."""
    directory = os.environ.get(_CREDENTIALS)
    path = Path(directory) / name if directory else None
    # systemd sets the owner and mode of a credential.
    return read_secret_file(path, noun, private=False) if path is not None and path.exists() else None


def forget_credentials() -> None:
    """Do not tell the processes that are started from now on where the credentials are."""
    os.environ.pop(_CREDENTIALS, None)


def has_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(prompt: str, noun: str) -> bytes:
    """Return the secret that is typed. Raises PassphraseError for the end of the input or for no text in UTF-8."""
    try:
        return getpass.getpass(prompt).encode()
    except (EOFError, UnicodeError):
        raise PassphraseError(f"no {noun} was typed, or it is no text in UTF-8: try again") from None

"""The frame that the three commands share: their environment, one line for an error, exit codes, `--json`.

A command is a function `add(commands)` in a module of its own. It imports heavy packages when it runs, so that
`--help` answers at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from common.errors import ConfigurationError, FedfinError
from common.files import json_text, write_atomic
from common.flower.environment import QUIET
from common.installation import foreign_package

if TYPE_CHECKING:
    from common.config.token import TokenSettings

__all__ = [
    "Commands",
    "add_encrypt",
    "add_new_passphrase",
    "add_passphrase",
    "build_parser",
    "changed_passphrase",
    "chosen_passphrase",
    "chosen_token",
    "main",
    "print_json",
    "subcommand",
    "write_output",
]

Commands = Any  # argparse's own type for the result of `add_subparsers` is private
Add = Callable[[Commands], None]

ENVIRONMENT = {
    # Threads that wait by spinning make a machine that does other work too several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    **QUIET,
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

_PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)
"""Errors of a path that was given. They come from the first look at it, wherever that is."""
_MOST_SHOWN = 160  # characters of such a path


class _Parser(argparse.ArgumentParser):
    """One line for a wrong argument, as for any other bad input, instead of the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: see {self.prog} --help\n")


def build_parser(prog: str, description: str, example: str, adders: Iterable[Add]) -> argparse.ArgumentParser:
    """The parser of command `prog`, with a subcommand for each of `adders`."""
    parser = _Parser(prog=prog, description=description, epilog=f"example: {prog} {example}")
    parser.add_argument("--version", action="version", version=f"{prog} {metadata.version('fedfin')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in adders:
        add(commands)
    return parser


def subcommand(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    """Add subcommand `name`, which `run` carries out. `run` returns the exit code. The subcommand takes `--json`."""
    prog = str(commands._prog_prefix)
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=f"example: {prog} {example}"
    )
    added.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    added.set_defaults(run=run)
    return added


def main(parser: argparse.ArgumentParser, arguments: list[str] | None, interrupted: str) -> int:
    """Run the subcommand that `arguments` name. Return the exit code: 2 for bad input, 130 (after `interrupted`) for
    Ctrl-C.
    """
    args = parser.parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if (foreign := foreign_package()) is not None:
        print(f"{parser.prog}: {foreign}", file=sys.stderr)
        return 2
    try:
        _use_files(args)
        return int(args.run(args))
    except FedfinError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of the output has closed it. Nothing more can be written there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        print(f"{parser.prog}: the memory is not enough: give smaller files, or use a larger machine", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in _PATH_ERRORS and error.filename is not None:
            name = os.fsdecode(error.filename)
            shown = name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}..."
            print(f"{parser.prog}: {shown}: {error.strerror}: check the path and its permissions", file=sys.stderr)
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{parser.prog}: the disk is full: make room, and run the command again", file=sys.stderr)
        return 2
    except EOFError:
        print(f"\n{parser.prog}: no answer was typed: run the command again, or see its --help", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: {interrupted}", file=sys.stderr)
        return 130


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Add `--passphrase-file FILE` and `--pin-file FILE`. `main` lets the command read them."""
    text = (
        "file (mode 0600) with the passphrase of encrypted private keys, repeatable if agent and node have different "
        "ones (default: the systemd credential fedfin-passphrase, or ask)"
    )
    parser.add_argument("--passphrase-file", type=Path, action="append", default=[], metavar="FILE", help=text)
    text = (
        "file (mode 0600) with the PIN of the token that holds the signing key (default: the systemd credential "
        "fedfin-token-pin, or ask)"
    )
    parser.add_argument("--pin-file", type=Path, metavar="FILE", help=text)


def add_encrypt(parser: argparse.ArgumentParser) -> None:
    """Add `--encrypt`, `--token LABEL` and the files with their secrets, for a command that makes keys."""
    text = "encrypt all private keys with a passphrase"
    parser.add_argument("--encrypt", action="store_true", help=text)
    text = "label of a PKCS#11 token that holds the signing key, which is made there unless it exists"
    parser.add_argument("--token", metavar="LABEL", help=text)
    text = "the PKCS#11 module of that token, such as /usr/lib/softhsm/libsofthsm2.so"
    parser.add_argument("--token-module", type=Path, metavar="FILE", help=text)
    parser.add_argument("--token-key", metavar="LABEL", help="label of the key there (default: fedfin-NAME)")
    add_passphrase(parser)


def chosen_token(args: argparse.Namespace) -> "TokenSettings | None":
    """Return the place of the signing key of `--name`, if it is in a token. None if `--token` is not given.

    Raises:
        ConfigurationError: The options do not go together.
    """
    from common.config.token import TokenSettings

    if args.token is None:
        if args.token_module is not None or args.token_key is not None:
            raise ConfigurationError("--token-module and --token-key: give --token LABEL too")
        if args.pin_file is not None and not getattr(args, "renew", False):
            raise ConfigurationError("--pin-file: give --token LABEL too, to keep the signing key in a token")
        return None
    if args.token_module is None:
        raise ConfigurationError("--token: give --token-module FILE too, the PKCS#11 module of the token")
    key = args.token_key or f"fedfin-{args.name}"
    return TokenSettings(module=args.token_module.absolute(), label=args.token, key=key)


def chosen_passphrase(args: argparse.Namespace) -> bytes | None:
    """Return the passphrase for new keys. None if `--encrypt` is not given.

    Raises:
        ConfigurationError: There is a file with a passphrase, but no `--encrypt`.
        PassphraseError: There is no passphrase, or it is too short.
    """
    from common.identity.passphrase import new_passphrase

    if not args.encrypt and args.passphrase_file:
        raise ConfigurationError("--passphrase-file: give --encrypt too, to encrypt the private keys")
    return new_passphrase() if args.encrypt else None


def add_new_passphrase(parser: argparse.ArgumentParser) -> None:
    """Add `--new-passphrase-file FILE`, for `changed_passphrase`."""
    text = "file (mode 0600) with the new passphrase (default: ask for it)"
    parser.add_argument("--new-passphrase-file", type=Path, metavar="FILE", help=text)


def changed_passphrase(args: argparse.Namespace) -> bytes:
    """Return the passphrase in the file that `--new-passphrase-file` names, else the typed one.

    Raises:
        PassphraseError: There is none, or it is too short.
    """
    from common.identity.passphrase import changed_passphrase

    return changed_passphrase(args.new_passphrase_file)


def write_output(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write the file that an option names.

    Args:
        path: The file.
        data: Its new content.
        mode: Its mode.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        write_atomic(path, data, mode=mode)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror}): choose another file") from None


def _use_files(args: argparse.Namespace) -> None:
    if getattr(args, "passphrase_file", None):
        from common.identity.passphrase import read_passphrase_from

        read_passphrase_from(args.passphrase_file)
    if getattr(args, "pin_file", None) is not None:
        from common.identity.pin import read_pin_from

        read_pin_from(args.pin_file)


def print_json(value: Mapping[str, Any]) -> None:
    """`value` as one line of JSON, for programs to read as the last line. An infinite epsilon is "infinity"."""
    print(json_text(value), flush=True)

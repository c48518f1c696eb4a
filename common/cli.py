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
from typing import Any, NoReturn

from common.errors import ConfigurationError, FedfinError
from common.files import json_text, write_atomic
from common.flower.environment import QUIET
from common.installation import foreign_package

__all__ = [
    "Commands",
    "add_encrypt",
    "add_new_passphrase",
    "add_passphrase",
    "build_parser",
    "changed_passphrase",
    "chosen_passphrase",
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
        _use_passphrases(args)
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{parser.prog}: the disk is full: make room, and run the command again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: {interrupted}", file=sys.stderr)
        return 130


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """Add `--passphrase-file FILE`. `main` lets the command read it."""
    text = (
        "file (mode 0600) with the passphrase of encrypted private keys, repeatable if agent and node have different "
        "ones (default: the systemd credential fedfin-passphrase, or ask)"
    )
    parser.add_argument("--passphrase-file", type=Path, action="append", default=[], metavar="FILE", help=text)


def add_encrypt(parser: argparse.ArgumentParser) -> None:
    """Add `--encrypt` and `--passphrase-file FILE`, for a command that makes keys."""
    text = "encrypt all private keys with a passphrase"
    parser.add_argument("--encrypt", action="store_true", help=text)
    add_passphrase(parser)


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


def _use_passphrases(args: argparse.Namespace) -> None:
    if getattr(args, "passphrase_file", None):
        from common.identity.passphrase import read_passphrase_from

        read_passphrase_from(args.passphrase_file)


def print_json(value: Mapping[str, Any]) -> None:
    """`value` as one line of JSON, for programs to read as the last line. An infinite epsilon is "infinity"."""
    print(json_text(value), flush=True)

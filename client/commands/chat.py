"""`fedfin-institution chat`: a conversation with an adapter that responds to prompts."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from common.errors import ConfigurationError, DataError
from common.tasks import Head

if TYPE_CHECKING:
    from common.data.datasets import Turn

__all__ = ["add"]

_NEW = "/new"


def add(commands: cli.Commands) -> None:
    """`chat`."""
    text = f"talk to an adapter of instruction_tuning, a line at a time ({_NEW} begins again, end of input ends it)"
    parser = cli.subcommand(commands, "chat", _run, text, "chat --adapter runs/assistant")
    parser.add_argument(
        "--adapter", required=True, type=Path, metavar="DIR", help="the directory that finetune or a run wrote"
    )
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--system", metavar="TEXT", help="the system turn before the conversation (default: none)")
    length = "length of a response at most, in tokens (default: 256)"
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=length)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")


def _run(args: argparse.Namespace) -> int:
    from client.inference.served import read_served

    kind = read_served(args.adapter, None, args.base_model).task
    if kind.head is not Head.INSTRUCTION:
        raise ConfigurationError(
            f"{args.adapter}: its task is {kind.name}, so it does not respond to prompts: use predict"
        )
    from client.inference.predictor import RESPONSE_TOKENS, load_adapter

    predictor = load_adapter(args.adapter, None, args.device, args.base_model)
    start: list[Turn] = [("system", args.system)] if args.system else []
    turns = list(start)
    longest = RESPONSE_TOKENS if args.max_new_tokens is None else args.max_new_tokens
    while (line := _next_line()) is not None:
        if line == _NEW:
            turns = list(start)
            continue
        if not line:
            continue
        turns.append(("user", line))
        [response] = predictor.respond([turns], longest)
        turns.append(("assistant", response))
        if not args.json:
            print(response, flush=True)
    if args.json:
        cli.print_json({"messages": [{"role": role, "content": content} for role, content in turns]})
    return 0


def _next_line() -> str | None:
    """Return the next line of standard input without blanks around it. None at its end."""
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        raise DataError("standard input: it is not UTF-8: convert it") from None
    return line.strip() if line else None

"""`fedfin-institution merge`: adapter and base model become one stand-alone model."""

import argparse
from pathlib import Path

from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`merge`."""
    text = "write a stand-alone model that transformers loads, without PEFT or fedfin"
    parser = cli.subcommand(commands, "merge", _run, text, "merge --adapter runs/sentiment --out models/sentiment")
    parser.add_argument(
        "--adapter", required=True, type=Path, metavar="DIR", help="the directory that finetune or a run wrote"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new directory")
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--task", metavar="TASK", help="the task, if the adapter serves several")


def _run(args: argparse.Namespace) -> int:
    from client.inference.merge import merge_adapter

    line = merge_adapter(args.adapter, args.out, args.task, args.base_model)
    if args.json:
        cli.print_json({"model": str(args.out), "load": line})
    else:
        print(f"model  {args.out}\nload   {line}")
    return 0

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
    gguf = "also write a new file for llama.cpp (of a model that writes text, on a base from a GGUF file: smollm2)"
    parser.add_argument("--gguf", type=Path, metavar="FILE", help=gguf)
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--task", metavar="TASK", help="the task, if the adapter serves several")


def _run(args: argparse.Namespace) -> int:
    from common.adapters.manifest import read_manifest

    read_manifest(args.adapter)
    from client.inference.merge import merge_adapter  # imports torch, so a wrong path is found before

    line = merge_adapter(args.adapter, args.out, args.task, args.base_model, args.gguf)
    file = {} if args.gguf is None else {"gguf": str(args.gguf)}
    if args.json:
        cli.print_json({"model": str(args.out), "load": line} | file)
    else:
        print(f"model  {args.out}\nload   {line}" + "".join(f"\ngguf   {each}" for each in file.values()))
    return 0

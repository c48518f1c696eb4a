"""`fedfin-institution predict`: predictions of a trained adapter for a file or for standard input."""

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.data.conll import split_words
from common.errors import ConfigurationError, DataError
from common.tasks import Head

if TYPE_CHECKING:
    from client.inference.predictor import Predictor
    from common.data.datasets import Turn

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`predict`."""
    text = "label the texts of a file or of standard input with a trained adapter, or write the responses to prompts"
    parser = cli.subcommand(commands, "predict", _run, text, "predict --adapter runs/sentiment news.csv")
    lines = "a table with a column of texts, words or prompts, .txt with one a line, or CoNLL (default: standard input)"
    parser.add_argument("input", nargs="?", default="-", metavar="FILE", help=lines)
    parser.add_argument(
        "--adapter", required=True, type=Path, metavar="DIR", help="the directory that finetune or a run wrote"
    )
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--task", metavar="TASK", help="the task, if the adapter serves several")
    column = "column of the texts or prompts (default: the usual ones)"
    parser.add_argument("--text-column", metavar="NAME", help=column)
    length = "length of a response at most, in tokens (default: 256)"
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=length)
    kind = "choose the likeliest of the declared answers of this kind of instruction, instead of writing a response"
    parser.add_argument("--kind", metavar="NAME", help=kind)
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="format of the output (default: csv)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="output file (default: standard output)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")


def _run(args: argparse.Namespace) -> int:
    from client.inference.served import read_served

    responds = read_served(args.adapter, args.task, args.base_model).task.head is Head.INSTRUCTION
    if args.max_new_tokens is not None and not responds:
        raise ConfigurationError("--max-new-tokens: this adapter does not respond to prompts: leave it out")
    if args.kind is not None and (not responds or args.max_new_tokens is not None):
        why = "an answer is chosen, not written" if responds else "this adapter does not respond to prompts"
        raise ConfigurationError(f"--{'max-new-tokens' if responds else 'kind'}: {why}: leave it out")
    prompts = _prompts(args) if responds else []
    texts = [] if responds else _texts(args)
    from client.inference.predictor import RESPONSE_TOKENS, load_adapter  # imports torch, so mistakes are found before

    predictor = load_adapter(args.adapter, args.task, args.device, args.base_model)
    if responds:
        longest = RESPONSE_TOKENS if args.max_new_tokens is None else args.max_new_tokens
        chosen = args.kind is not None
        written = predictor.choose(prompts, args.kind) if chosen else predictor.respond(prompts, longest)
        rows: list[dict[str, Any]] = [{"row": row, "response": each} for row, each in enumerate(written, start=1)]
    else:
        rows = _rows(predictor, texts)
    content = _csv(rows) if args.format == "csv" else "".join(json.dumps(row) + "\n" for row in rows)
    if args.out is not None:
        cli.write_output(args.out, content.encode(), mode=0o600)
    elif not args.json:
        sys.stdout.write(content)
    if args.json:
        cli.print_json({"task": predictor.task.name, "rows": len(rows), "predictions": rows})
    return 0


def _prompts(args: argparse.Namespace) -> "list[tuple[Turn, ...]]":
    from common.data.unlabelled import read_prompts

    if args.input != "-":
        return read_prompts(Path(args.input), args.text_column)
    return [(("user", text),) for text in _lines_of_standard_input()]


def _texts(args: argparse.Namespace) -> "list[str | tuple[str, ...]]":
    from common.data.unlabelled import read_texts

    if args.input != "-":
        return read_texts(Path(args.input), args.text_column)
    return list(_lines_of_standard_input())


def _lines_of_standard_input() -> list[str]:
    from common.data.unlabelled import texts_of_lines

    if sys.stdin.isatty():
        raise ConfigurationError("predict: name a file, or send texts to standard input, one a line")
    try:
        lines = [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError:
        raise DataError("standard input: it is not UTF-8: convert it") from None
    return texts_of_lines(lines, "standard input")


def _rows(predictor: "Predictor", rows: "list[str | tuple[str, ...]]") -> list[dict[str, Any]]:
    """One for each text, in order."""
    if predictor.task.head.labels_words:
        sentences = [split_words(row) if isinstance(row, str) else row for row in rows]
        return [{"row": number, "labels": " ".join(tags)} for number, tags in enumerate(predictor.tag(sentences), 1)]
    texts = [row if isinstance(row, str) else " ".join(row) for row in rows]
    if predictor.task.head.labels_texts:
        labels = predictor.classify(texts)
        return [
            {"row": number, "label": each.label, **{f"p_{k}": round(v, 6) for k, v in each.probabilities.items()}}
            for number, each in enumerate(labels, start=1)
        ]
    return [{"row": number, "summary": each} for number, each in enumerate(predictor.predict(texts), start=1)]


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()

"""`fedfin-institution predict`: predictions of a trained adapter for a file or for standard input."""

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from client.inference.predictor import Predictor

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`predict`."""
    text = "label the texts of a file, or of standard input, with a trained adapter"
    parser = cli.subcommand(commands, "predict", _run, text, "predict --adapter runs/sentiment news.csv")
    lines = "a table with a column of texts, or .txt with one a line (default: lines of standard input)"
    parser.add_argument("input", nargs="?", default="-", metavar="FILE", help=lines)
    parser.add_argument(
        "--adapter", required=True, type=Path, metavar="DIR", help="the directory that finetune or a run wrote"
    )
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--task", metavar="TASK", help="the task, if the adapter serves several")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column of the texts (default: text)")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="format of the output (default: csv)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="output file (default: standard output)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")


def _run(given: argparse.Namespace) -> int:
    texts = _texts(given)
    from client.inference.predictor import load_adapter
    from common.files import write_atomic

    predictor = load_adapter(given.adapter, given.task, given.device, given.base_model)
    rows = _rows(predictor, texts)
    content = _csv(rows) if given.format == "csv" else "".join(json.dumps(row) + "\n" for row in rows)
    if given.out is not None:
        write_atomic(given.out, content.encode(), mode=0o600)
    elif not given.json:
        sys.stdout.write(content)
    if given.json:
        cli.print_json({"task": predictor.task.name, "rows": len(rows), "predictions": rows})
    return 0


def _texts(given: argparse.Namespace) -> list[str]:
    from common.data.raw_text import read_text
    from common.data.tables import read_rows

    path = Path(given.input)
    source = given.input
    if given.input == "-":
        if sys.stdin.isatty():
            raise ConfigurationError("predict: name a file, or send texts to standard input, one a line")
        source = "standard input"
        try:
            texts = [line.rstrip("\n") for line in sys.stdin]
        except UnicodeDecodeError:
            raise DataError(f"{source}: it is not UTF-8: convert it") from None
    elif path.suffix == ".txt":
        texts = read_text(path).splitlines()
    else:
        texts = [row[given.text_column] for row in read_rows(path, (given.text_column,))]
    if not texts:
        raise DataError(f"{source}: there are no texts")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"{source}: row {number} is empty: fill it or leave it out")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"{source}: row {number} is not UTF-8: convert the file")
    return texts


def _rows(predictor: "Predictor", texts: list[str]) -> list[dict[str, Any]]:
    """One for each text, in order."""
    if predictor.task.head.labels_texts:
        found = predictor.classify(texts)
        return [
            {"row": number, "label": each.label, **{f"p_{k}": round(v, 6) for k, v in each.probabilities.items()}}
            for number, each in enumerate(found, start=1)
        ]
    name = "summary" if predictor.task.head.writes_text else "labels"
    return [{"row": number, name: each} for number, each in enumerate(predictor.predict(texts), start=1)]


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()

"""`fedfin-institution inspect`: a look at rows before anything is trained on them."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from client.commands.options import refuse_absent
from common import cli
from common.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from common.data.datasets import Dataset

__all__ = ["add"]

_TEXT_COLUMNS = ("text", "sentence", "content", "body", "narrative")


def add(commands: cli.Commands) -> None:
    """`inspect`."""
    text = (
        "count labels, duplicates, cut texts, likely personal data and languages of files; prints no text of theirs, "
        "only counts and row numbers"
    )
    parser = cli.subcommand(commands, "inspect", _run, text, "inspect train.csv test.csv --max-tokens 128")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="data files or folders of text, such as train and test"
    )
    parser.add_argument("--text-column", metavar="NAME", help="column of the texts (default: text or tokens)")
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels (default: label, or ner_tags)")
    parser.add_argument(
        "--base-model", default="minilm", metavar="NAME", help="minilm (default), a directory, or a name"
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="tokens at which texts are cut (default: 256, for words 512)"
    )


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from client.inspection import inspect_rows
    from client.inspection.report import lines
    from common.presets import preset
    from common.tasks import task

    if args.max_tokens is not None and args.max_tokens < 4:
        raise ConfigurationError(f"max_tokens is {args.max_tokens}: use a whole number from 4")
    if len(set(args.files)) < len(args.files):
        raise ConfigurationError("a file is named twice: name each once")
    console = Console(stderr=True, quiet=args.json)
    with console.status("reading files") as status:
        refuse_absent(args, "files")
        splits = {str(path): read_rows_of(path, args.text_column, args.label_column) for path in args.files}
        from common.base_models.pretrained import load_tokenizer  # imports torch, so mistakes are found before

        tokenizer = load_tokenizer(args.base_model)
        words = any("O" in rows.labels for rows in splits.values())
        usual = preset(task("financial_ner" if words else "sentiment_analysis"), private=False).max_tokens
        found = inspect_rows(splits, tokenizer, args.max_tokens or usual, status.update).to_json()
    if args.json:
        cli.print_json(found)
    else:
        print("\n".join(lines(found)))
    return 0


def read_rows_of(path: Path, text_column: str | None = None, label_column: str | None = None) -> "Dataset":
    """Return the rows of a file with the labels as they are written, or texts without labels.

    Args:
        path: A table, a CoNLL file, an export of an annotation tool, or text.
        text_column: Name of the column of texts or words. None takes the first usual name that exists.
        label_column: Name of the column of labels or tags. None takes "label" or "ner_tags", if it exists.

    Raises:
        DataError: One line that names file, row and column.
    """
    from common.data.conversations import has_conversations
    from common.data.corpora import read_text_dataset
    from common.data.files import OPENERS, open_table
    from common.data.raw_text import file_kind
    from common.data.reading import read_labelled

    if path.is_dir() or file_kind(path) not in (*OPENERS, ".txt"):
        return read_text_dataset(path, text_column)
    if file_kind(path) == ".txt":
        with suppress(DataError):
            return _as_written(path, "text", "label")
        with suppress(DataError):
            return read_labelled(path, "financial_ner")
        return read_text_dataset(path)
    columns = open_table(path).columns
    if {text_column or "tokens", label_column or "ner_tags"} <= set(columns) and "tokens" in columns:
        return read_labelled(path, "financial_ner", text_column, label_column)
    if text_column is None and label_column is None and has_conversations(columns):
        return read_labelled(path, "instruction_tuning")
    text = text_column or next((name for name in _TEXT_COLUMNS if name in columns), "text")
    if label_column is None and "label" not in columns:
        return read_text_dataset(path, text)
    return _as_written(path, text, label_column or "label")


def _as_written(path: Path, text_column: str, label_column: str) -> "Dataset":
    """Return texts with their labels, each spelling of a label for itself."""
    from common.data.datasets import Dataset, Example
    from common.data.tables import read_rows

    rows = read_rows(path, (text_column, label_column))
    labels = {label: place for place, label in enumerate(sorted({row[label_column] for row in rows}))}
    examples = tuple(Example(row[text_column].strip(), labels[row[label_column]]) for row in rows)
    return Dataset(examples, tuple(labels), str(path))

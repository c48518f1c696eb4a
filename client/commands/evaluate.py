"""`fedfin-institution evaluate`: the figures of a trained adapter on a labelled file."""

import argparse
from pathlib import Path

from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`evaluate`."""
    text = "measure a trained adapter on labelled rows that it was not trained on"
    parser = cli.subcommand(commands, "evaluate", _run, text, "evaluate --adapter runs/sentiment --test test.csv")
    parser.add_argument(
        "--adapter", required=True, type=Path, metavar="DIR", help="the directory that finetune or a run wrote"
    )
    parser.add_argument("--test", required=True, type=Path, metavar="FILE", help="labelled rows")
    parser.add_argument("--base-model", metavar="DIR", help="place of the base model, if it was moved")
    parser.add_argument("--task", metavar="TASK", help="the task, if the adapter serves several")
    parser.add_argument("--text-column", metavar="NAME", help="column of the texts (default: text, or tokens)")
    parser.add_argument(
        "--label-column", metavar="NAME", help="column of the labels (default: label, summary, or ner_tags)"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")


def _run(args: argparse.Namespace) -> int:
    from client.inference.served import read_served
    from common.data.reading import read_labelled

    served = read_served(args.adapter, args.task, args.base_model)
    columns = (args.text_column, args.label_column)
    rows = read_labelled(args.test, served.task, *columns, served.labels, answers=served.answers)
    from client.inference.predictor import load_adapter  # imports torch, so mistakes are found before

    predictor = load_adapter(args.adapter, args.task, args.device, args.base_model)
    metrics = predictor.figures(rows)
    if args.json:
        cli.print_json({"task": predictor.task.name, "rows": len(rows), "metrics": metrics})
    else:
        print("\n".join(f"{name:20} {value:.4f}" for name, value in metrics.items()))
    return 0

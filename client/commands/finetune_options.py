"""The options of `fedfin-institution finetune`."""

import argparse
from pathlib import Path

from client.commands.options import LABELLED_TASKS, add_log_to, add_probe
from common import cli

__all__ = ["STRATEGIES", "add_finetune_options"]

_METHODS = ("lora", "qlora", "prefix_tuning", "p_tuning")
STRATEGIES = ("single_task", "incremental", "multi_task")


def add_finetune_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of the command."""
    _add_rows(parser)
    _add_how(parser)
    _add_privacy(parser)
    resume = "output directory (rerun the same command to resume)"
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help=resume)


def _add_rows(parser: argparse.ArgumentParser) -> None:
    rows = parser.add_argument_group("rows (repeat for each task of multi_task, in the same order)")
    rows.add_argument("--task", action="append", required=True, metavar="TASK", help=", ".join(LABELLED_TASKS))
    rows.add_argument("--train", action="append", required=True, type=Path, metavar="FILE", help="rows to train on")
    rows.add_argument("--test", action="append", required=True, type=Path, metavar="FILE", help="rows to measure on")
    text, label = "default: text, or tokens", "default: label, summary, or ner_tags"
    rows.add_argument("--text-column", action="append", default=[], metavar="NAME", help=text)
    rows.add_argument("--label-column", action="append", default=[], metavar="NAME", help=label)
    labels = (
        "a file with one label a line, in the order of the outputs (default: those of the training rows, and with "
        "privacy those of institution.toml or of the task)"
    )
    rows.add_argument("--labels", action="append", default=[], type=Path, metavar="FILE", help=labels)
    answers = "of instruction_tuning: a TOML file with the allowed answers of each kind, such as trend = ['up', 'down']"
    rows.add_argument("--answers", type=Path, metavar="FILE", help=answers)
    old = parser.add_argument_group("incremental: continue an adapter")
    old.add_argument(
        "--from", type=Path, dest="previous", metavar="DIR", help="the --out directory of an earlier finetune"
    )
    forgetting = "test rows of the earlier training, to measure forgetting"
    old.add_argument("--previous-test", type=Path, metavar="FILE", help=forgetting)
    replay = "training rows of the earlier training, some of which are replayed"
    old.add_argument("--previous-train", type=Path, metavar="FILE", help=replay)


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    strategies = f"{', '.join(STRATEGIES)} (default: single_task)"
    how.add_argument("--strategy", default="single_task", metavar="NAME", help=strategies)
    how.add_argument("--adapter", choices=_METHODS, default="lora", help="the trained method (default: lora)")
    how.add_argument("--base-model", default="minilm", metavar="NAME", help="minilm (default), a directory, or a name")
    pooling = "input of the classification head: the mean of all tokens (default), or the model's own choice"
    how.add_argument("--pooling", choices=("mean", "native"), default="mean", help=pooling)
    how.add_argument(
        "--max-tokens", type=int, metavar="N", help="cut texts after N tokens (default: 256, for words 512)"
    )
    how.add_argument("--epochs", type=int, metavar="N", help="passes over the rows (default: by task and rows)")
    how.add_argument("--batch-size", type=int, metavar="N", help="rows a step (default: by task)")
    how.add_argument("--learning-rate", type=float, metavar="RATE", help="default: by the model's size")
    how.add_argument("--rank", type=int, metavar="R", help="rank of lora and qlora")
    how.add_argument(
        "--alpha", type=float, metavar="A", help="scaling alpha of lora and qlora (default: twice the rank)"
    )
    how.add_argument("--dropout", type=float, metavar="P", help="dropout of lora and qlora (default: the preset's)")
    preset = "take rank, alpha, dropout and modules that are left open from the preset of this task (default: --task)"
    how.add_argument("--preset", metavar="TASK", help=preset)
    how.add_argument("--target-modules", metavar="NAMES", help="all-linear (default), task, or names with commas")
    how.add_argument("--layers", metavar="WHICH", help="blocks with LoRA: all (default), last:K, or none (head alone)")
    how.add_argument("--virtual-tokens", type=int, metavar="N", help="length of the soft prompt")
    words = "words that the virtual tokens of p_tuning start from (default: Financial analysis task:)"
    how.add_argument("--prompt-text", metavar="TEXT", help=words)
    share = "fraction of the training rows that is held out to choose the epoch (default: 0.1)"
    how.add_argument("--validation-fraction", type=float, default=0.1, metavar="F", help=share)
    precisions = ("auto", "float32", "bfloat16", "float16")
    how.add_argument("--precision", choices=precisions, default="auto", help="number format of the forward pass")
    how.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    how.add_argument(
        "--max-hours", type=float, metavar="H", help="stop after H hours (the number of steps is planned to fit)"
    )
    limit = "refuse a training that is expected to need more, and never use more"
    how.add_argument("--max-memory-gb", type=float, metavar="GB", help=limit)
    how.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="seed of order and initialisation (default: 0)")
    add_log_to(how)
    add_probe(parser)


def _add_privacy(parser: argparse.ArgumentParser) -> None:
    privacy = parser.add_argument_group("differential privacy of one training row")
    level = "high (noise 1.0, clip 1.0) or standard (noise 0.5, clip 2.0). Default: no privacy"
    privacy.add_argument("--privacy", metavar="LEVEL", help=level)
    epsilon = "train within epsilon E for the whole training, instead of a level"
    privacy.add_argument("--target-epsilon", type=float, metavar="E", help=epsilon)
    privacy.add_argument("--delta", type=float, help="default: the institution's, or below a tenth of 1 / rows")
    home = (
        "institution whose limits hold and whose ledger is charged, with and without privacy (default: "
        "$FEDFIN_INSTITUTION, or none)"
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help=home)
    cli.add_passphrase(parser)

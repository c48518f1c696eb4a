"""`fedfin-institution advise`: which method, rank, rate and batch to fine-tune with, and why."""

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.commands.options import LABELLED_TASKS, refuse_absent
from common import cli
from common.errors import ConfigurationError
from common.tasks import Head, task

if TYPE_CHECKING:
    from client.finetune.options.advise import Advice, Machine, Rows
    from client.finetune.options.defaults import ResolvedSettings
    from client.finetune.options.memory import MemoryEstimate
    from client.finetune.options.strategy import Aims, Way
    from common.data.datasets import Dataset
    from common.tasks import Task

__all__ = ["add"]

_SAMPLE = 2000
_TEST, _OUT = "TEST_FILE", "OUT_DIRECTORY"
_NOTHING_FITS = 1
"""Exit code if no settings fit into the memory."""


def add(commands: cli.Commands) -> None:
    """`advise`."""
    text = "recommend a method and settings for rows, model and machine, with reasons (trains nothing)"
    example = "advise --task sentiment_analysis --train train.csv"
    parser = cli.subcommand(commands, "advise", _run, text, example)
    parser.add_argument("--task", required=True, metavar="TASK", help=", ".join(LABELLED_TASKS))
    parser.add_argument("--train", required=True, type=Path, metavar="FILE", help="the rows to train on")
    parser.add_argument("--test", type=Path, metavar="FILE", help="used in the printed command")
    parser.add_argument("--out", type=Path, metavar="DIR", help="used in the printed command")
    parser.add_argument("--text-column", metavar="NAME", help="column of the texts (default: text, or tokens)")
    parser.add_argument(
        "--label-column", metavar="NAME", help="column of the labels (default: label, summary, or ner_tags)"
    )
    parser.add_argument("--base-model", default="minilm", metavar="NAME", help="minilm (default), smollm2, a directory")
    aims = parser.add_argument_group("what else there is, for the choice of a strategy")
    aims.add_argument(
        "--other-task", action="append", default=[], metavar="TASK", help="a task with rows of its own (repeat)"
    )
    aims.add_argument("--previous", type=Path, metavar="DIR", help="an earlier adapter of this task")
    aims.add_argument("--corpus", type=Path, metavar="PATH", help="text of the domain without labels")
    others = "institutions with rows of this task, this one included (default: 1)"
    aims.add_argument("--institutions", type=int, default=1, metavar="N", help=others)
    aims.add_argument("--private", action="store_true", help="the training must be differentially private")
    parser.add_argument(
        "--memory-gb", type=float, metavar="GB", help="memory for the training (default: the free memory)"
    )


def _run(args: argparse.Namespace) -> int:
    kind = task(args.task)
    if args.memory_gb is not None and not args.memory_gb > 0:
        raise ConfigurationError(f"--memory-gb is {args.memory_gb:g}: use a number above 0")
    refuse_absent(args, "train", "corpus")
    from common.data.reading import read_labelled

    rows = read_labelled(args.train, kind, args.text_column, args.label_column)
    advice, machine, ways = _advise(args, kind, rows)
    # A command that would be refused for its memory is not printed.
    line = shlex.join(_command(args, advice, ways[0].strategy)) if advice.fits else None
    code = 0 if advice.fits else _NOTHING_FITS
    if args.json:
        cli.print_json({**advice.to_json(), "strategies": [way.to_json() for way in ways], "command": line})
        return code
    where = "on the GPU" if machine.gpu else f"of main memory, {machine.cores} cores, no GPU"
    print(f"{kind.name}: {len(rows)} rows; {machine.memory / 1e9:.1f} GB {where}\n")
    for way in ways:
        print(f"{way.strategy + (' (take it)' if way.advised else ''):26} {way.because}")
    print()
    for choice in advice.choices:
        print(f"{(choice.option + ' ' + choice.value).strip():26} {choice.because}")
    print(f"{'':26} expected: {advice.need}")
    for note in advice.notes:
        print(f"{'note':26} {note}")
    if line is not None:
        print(f"\n{line}")
    return code


def _advise(args: argparse.Namespace, kind: "Task", rows: "Dataset") -> "tuple[Advice, Machine, tuple[Way, ...]]":
    import psutil
    import torch

    from client.finetune.options.advise import Machine, Model, advise
    from client.finetune.options.defaults import BaseFacts
    from client.finetune.options.memory import estimate_memory
    from client.finetune.options.strategy import advise_strategy
    from common.base_models.architecture import hidden_size
    from common.base_models.check import check_base_model

    checked = check_base_model(args.base_model, kind.head)
    model = Model(args.base_model, BaseFacts(hidden_size(checked.config), checked.max_positions))
    gpu = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    memory = free if args.memory_gb is None else args.memory_gb * 1e9
    machine = Machine(int(memory), os.cpu_count() or 1, gpu)

    def needed(settings: "ResolvedSettings") -> "MemoryEstimate":
        return estimate_memory(model.name, checked.config, kind, settings)

    ways = advise_strategy(kind, len(rows), _aims(args, checked.tokenizer))
    return advise(kind, _rows(rows, checked.tokenizer, kind), model, machine, needed), machine, ways


def _aims(args: argparse.Namespace, tokenizer: Any) -> "Aims":
    from client.finetune.options.strategy import Aims
    from common.base_models.extend import tokens_per_word
    from common.data.corpora import read_corpus

    if args.institutions < 1:
        raise ConfigurationError(f"--institutions is {args.institutions}: use 1 or more")
    texts = [] if args.corpus is None else read_corpus(args.corpus)
    return Aims(
        other_tasks=tuple(task(name, "--other-task").name for name in args.other_task),
        previous=args.previous is not None,
        corpus_texts=len(texts),
        tokens_per_word=tokens_per_word(tokenizer, texts[:: -(-len(texts) // _SAMPLE)]) if texts else 0.0,
        institutions=args.institutions,
        private=args.private,
    )


def _rows(dataset: "Dataset", tokenizer: Any, kind: "Task") -> "Rows":
    from client.finetune.options.advise import Rows
    from common.tokenization.responses import uncut_lengths

    some = dataset.examples[:: -(-len(dataset) // _SAMPLE)]
    if kind.head is Head.INSTRUCTION:
        lengths = uncut_lengths(tokenizer, replace(dataset, examples=some))
    else:
        texts = [getattr(e, "text", None) or " ".join(getattr(e, "words", ())) for e in some]
        lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    return Rows(len(dataset), tuple(lengths), dataset.label_counts())


def _command(args: argparse.Namespace, advice: "Advice", strategy: str) -> list[str]:
    """Return the command that carries out the advice. Capital words stand for files that were not named."""
    if strategy == "federated":
        return ["fedfin-simulate", "run", "RUN.toml", "--out", str(args.out or _OUT)]
    rows = ["--task", args.task, "--train", str(args.train), "--test", str(args.test or _TEST)]
    for option, value in (("--text-column", args.text_column), ("--label-column", args.label_column)):
        rows += [option, value] if value and strategy != "stages" else []
    out = ["--out", str(args.out or _OUT)]
    if strategy == "stages":
        corpus = ["--corpus", str(args.corpus), "--domain", "sec_filings"]
        own = {"--base-model", "--rank", "--max-tokens"}
        choices = [word for c in advice.choices if c.option in own for word in (c.option, c.value)]
        return ["fedfin-institution", "stages", *rows, *corpus, *choices, *out]
    words = ["fedfin-institution", "finetune", *rows]
    for name in args.other_task if strategy == "multi_task" else ():
        words += ["--task", name, "--train", f"{name.upper()}_TRAIN", "--test", f"{name.upper()}_TEST"]
    if strategy != "single_task":
        words += ["--strategy", strategy]
    if strategy == "incremental":  # it keeps the settings of the earlier adapter
        words += ["--from", str(args.previous), "--previous-test", "PREVIOUS_TEST_FILE"]
        kept = {"--learning-rate", "--batch-size", "--epochs", "--gradient-checkpointing"}
    else:
        kept = {choice.option for choice in advice.choices}
    for choice in advice.choices:
        if choice.option in kept:
            words += [choice.option, *([choice.value] if choice.value else [])]
    return [*words, *out]

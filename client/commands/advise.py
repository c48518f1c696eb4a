"""`fedfin-institution advise`: which method, rank, rate and batch to fine-tune with, and why."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.commands.options import LABELLED_TASKS
from common import cli
from common.errors import ConfigurationError
from common.tasks import task

if TYPE_CHECKING:
    from client.finetune.options.advise import Advice, Machine, Rows
    from client.finetune.options.defaults import ResolvedSettings
    from client.finetune.options.memory import MemoryEstimate
    from common.data.datasets import Dataset
    from common.tasks import Task

__all__ = ["add"]

_SAMPLE = 2000
_TEST, _OUT = "TEST_FILE", "OUT_DIRECTORY"


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
    parser.add_argument(
        "--memory-gb", type=float, metavar="GB", help="memory for the training (default: the free memory)"
    )


def _run(given: argparse.Namespace) -> int:
    kind = task(given.task)
    if given.memory_gb is not None and not given.memory_gb > 0:
        raise ConfigurationError(f"--memory-gb is {given.memory_gb:g}: use a number above 0")
    from common.data.reading import read_labelled

    rows = read_labelled(given.train, kind, given.text_column, given.label_column)
    advice, machine = _advise(given, kind, rows)
    line = shlex.join(_command(given, advice))
    if given.json:
        cli.print_json({**advice.to_json(), "command": line})
        return 0
    where = "on the GPU" if machine.gpu else f"of main memory, {machine.cores} cores, no GPU"
    print(f"{kind.name}: {len(rows)} rows; {machine.memory / 1e9:.1f} GB {where}\n")
    for choice in advice.choices:
        print(f"{(choice.option + ' ' + choice.value).strip():26} {choice.because}")
    print(f"{'':26} expected: {advice.need}")
    for note in advice.notes:
        print(f"{'note':26} {note}")
    print(f"\n{line}")
    return 0


def _advise(given: argparse.Namespace, kind: "Task", rows: "Dataset") -> "tuple[Advice, Machine]":
    import psutil
    import torch

    from client.finetune.options.advise import Machine, Model, advise
    from client.finetune.options.defaults import BaseFacts
    from client.finetune.options.memory import estimate_memory
    from common.base_models.architecture import hidden_size
    from common.base_models.check import check_base_model

    checked = check_base_model(given.base_model, kind.head)
    model = Model(given.base_model, BaseFacts(hidden_size(checked.config), checked.max_positions))
    gpu = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    memory = free if given.memory_gb is None else given.memory_gb * 1e9
    machine = Machine(int(memory), os.cpu_count() or 1, gpu)

    def needed(settings: "ResolvedSettings") -> "MemoryEstimate":
        return estimate_memory(model.name, checked.config, kind, settings)

    return advise(kind, _rows(rows, checked.tokenizer), model, machine, needed), machine


def _rows(dataset: "Dataset", tokenizer: Any) -> "Rows":
    from client.finetune.options.advise import Rows

    step = -(-len(dataset) // _SAMPLE)
    texts = [getattr(e, "text", None) or " ".join(getattr(e, "words", ())) for e in dataset.examples[::step]]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    return Rows(len(dataset), tuple(lengths), dataset.label_counts())


def _command(given: argparse.Namespace, advice: "Advice") -> list[str]:
    words = ["fedfin-institution", "finetune", "--task", given.task, "--train", str(given.train)]
    words += ["--test", str(given.test or _TEST)]
    for option, value in (("--text-column", given.text_column), ("--label-column", given.label_column)):
        words += [option, value] if value else []
    for choice in advice.choices:
        words += [choice.option, *([choice.value] if choice.value else [])]
    return [*words, "--out", str(given.out or _OUT)]

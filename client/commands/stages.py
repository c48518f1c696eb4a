"""`fedfin-institution stages`: from a base model to a task in several steps, each measured."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.commands.adapt import add_corpus, add_how, corpus_of, terms_of
from client.commands.options import add_task_rows, refuse_absent
from common import cli
from common.errors import ConfigurationError

if TYPE_CHECKING:
    from client.finetune.job import TaskData
    from client.finetune.result import FineTuningResult
    from client.finetune.strategies.stages import StagesJob

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`stages`."""
    text = "domain pretraining, intermediate tasks, the target task, a smaller student: each optional but the target"
    example = "stages --task document_classification --train train.jsonl --test test.jsonl --corpus filings/ --domain "
    parser = cli.subcommand(commands, "stages", _run, text, example + "sec_filings --student-blocks 3 --out runs/s")
    target = parser.add_argument_group("the target task")
    add_task_rows(target)
    first = parser.add_argument_group("intermediate tasks, learned together (repeat all three for each task)")
    first.add_argument("--intermediate-task", action="append", default=[], metavar="TASK", help="a task")
    first.add_argument(
        "--intermediate-train", action="append", default=[], type=Path, metavar="FILE", help="its training rows"
    )
    first.add_argument(
        "--intermediate-test", action="append", default=[], type=Path, metavar="FILE", help="its test rows"
    )
    parser.add_argument("--corpus", type=Path, metavar="PATH", help="text for domain pretraining (default: none)")
    add_corpus(parser, required=False)
    how = add_how(parser)
    how.add_argument("--student-blocks", type=int, metavar="N", help="distil into a student of N blocks")
    rates = "measured: by the model's size. published: 1e-5, 2e-5, 3e-5, 1e-5, meant for large models trained whole"
    how.add_argument("--rates", choices=("measured", "published"), default="measured", help=rates)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="output directory (rerun the same command to resume)"
    )


def _run(args: argparse.Namespace) -> int:
    refuse_absent(args, "train", "test", "intermediate_train", "intermediate_test", "corpus", "held_out")
    refuse_absent(args, "reference_text", "terms")
    from client.finetune.strategies import stages
    from client.tracking.progress_bar import ProgressBar

    with ProgressBar(quiet=args.json) as progress:
        outcome = stages.run(_job(args, progress))
    if args.json:
        cli.print_json(outcome.to_json())
    else:
        print(_summary(outcome))
    return 0


def _job(args: argparse.Namespace, progress: Any) -> "StagesJob":
    from client.finetune.job import AdapterOptions
    from client.finetune.strategies.stages import PUBLISHED, STAGES, StagesJob
    from common.data.corpora import read_corpus

    if args.corpus is not None and args.domain is None:
        raise ConfigurationError("--corpus: name the text's --domain too")
    for name in ("domain", "terms", "held_out", "reference_text", "max_texts", "column", "group_column"):
        if args.corpus is None and getattr(args, name) is not None:
            raise ConfigurationError(f"--{name.replace('_', '-')} goes with --corpus, the text of domain pretraining")
    corpus = None if args.corpus is None else corpus_of(args, args.corpus)
    return StagesJob(
        target=_rows(args.task, args.train, args.test),
        out=args.out,
        corpus=corpus,
        terms=None if corpus is None else terms_of(args, corpus, args.base_model),
        general=None if args.reference_text is None else tuple(read_corpus(args.reference_text)),
        intermediate=_intermediate(args),
        student_blocks=args.student_blocks,
        base_model=args.base_model,
        max_tokens=args.max_tokens,
        adapter=AdapterOptions(rank=args.rank, layers=args.layers),
        schedule=PUBLISHED if args.rates == "published" else STAGES,
        seed=args.seed,
        device=args.device,
        max_hours=args.max_hours,
        max_memory_gb=args.max_memory_gb,
        log_to=args.log_to,
        observers=(progress,),
    )


def _rows(name: str, train_path: Path, test_path: Path) -> "TaskData":
    from client.finetune.job import TaskData
    from common.data.reading import read_labelled
    from common.tasks import task

    kind = task(name)
    train = read_labelled(train_path, kind)
    return TaskData(kind, train, read_labelled(test_path, kind, labels=train.labels, numbered=train.numbered))


def _intermediate(args: argparse.Namespace) -> "tuple[TaskData, ...]":
    names, trains, tests = args.intermediate_task, args.intermediate_train, args.intermediate_test
    if not len(names) == len(trains) == len(tests):
        raise ConfigurationError("--intermediate-task, --intermediate-train, --intermediate-test: as often each")
    return tuple(_rows(*each) for each in zip(names, trains, tests, strict=True))


def _summary(outcome: "FineTuningResult") -> str:
    metrics, lines = outcome.measured, []
    for entry in metrics["stages"]:
        validation = entry["validation"]
        figure = "" if validation is None else f", validation {validation:.3f}"
        lines.append(
            f"{entry['stage']:24} {entry['seconds']:7.0f} s, {entry['parameter_efficiency']:.2%} of "
            f"{entry['total_parameters']:,} parameters trained{figure}"
        )
        if entry["hours"]:
            lines.append(f"{'':24} {entry['hours']}")
    shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float))
    lines += [f"best: {metrics['best']} ({shown})", f"adapter: {outcome.adapter}"]
    lines += [f"report: {outcome.report}"] if outcome.report else []
    return "\n".join([*lines, *(f"WARNING {warning}" for warning in outcome.warnings)])

"""`fedfin-institution domain-adversarial`: one classifier for two domains, of which one has labels."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from client.commands.adapt import add_how
from client.commands.options import add_task_rows, refuse_absent
from common import cli

if TYPE_CHECKING:
    from client.finetune.result import FineTuningResult

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`domain-adversarial`."""
    text = "fine-tune on one domain so that the encoder also serves a second domain, whose text has no labels"
    example = "domain-adversarial --task sentiment_analysis --train news.csv --test news_test.csv --other notes.csv "
    parser = cli.subcommand(commands, "domain-adversarial", _run, text, example + "--out runs/both")
    rows = parser.add_argument_group("the domain with labels")
    add_task_rows(rows)
    other = parser.add_argument_group("the other domain")
    other.add_argument("--other", required=True, type=Path, metavar="PATH", help="a file or folder of its text")
    other.add_argument("--column", metavar="NAME", help="text column of tables (default: text)")
    strength = "strength of the reversed gradient at the end, 0 or more (default: 0.3)"
    other.add_argument("--strength", type=float, default=0.3, metavar="S", help=strength)
    how = add_how(parser)
    how.add_argument("--epochs", type=int, metavar="N", help="passes over the rows (default: by task and rows)")
    how.add_argument("--learning-rate", type=float, metavar="RATE", help="default: by the model's size")
    resume = "output directory (rerun the same command to resume)"
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help=resume)


def _run(args: argparse.Namespace) -> int:
    refuse_absent(args, "train", "test", "other")
    from client.finetune import AdapterOptions, TaskData, TrainingOptions, finetune
    from client.finetune.strategies.domain_adversarial import AdversarialJob
    from client.tracking.progress_bar import ProgressBar
    from common.data.corpora import read_text_dataset
    from common.data.reading import read_labelled
    from common.tasks import task

    kind = task(args.task)
    train = read_labelled(args.train, kind)
    test = read_labelled(args.test, kind, labels=train.labels, numbered=train.numbered)
    with ProgressBar(quiet=args.json) as progress:
        job = AdversarialJob(
            data=(TaskData(kind, train, test),),
            out=args.out,
            strategy="domain_adversarial",
            other=read_text_dataset(args.other, args.column),
            max_strength=args.strength,
            base_model=args.base_model,
            max_tokens=args.max_tokens,
            adapter=AdapterOptions(rank=args.rank, layers=args.layers),
            training=TrainingOptions(epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.learning_rate),
            seed=args.seed,
            device=args.device,
            max_hours=args.max_hours,
            max_memory_gb=args.max_memory_gb,
            log_to=args.log_to,
            observers=(progress,),
        )
        result = finetune(job)
    if args.json:
        cli.print_json(result.to_json())
    else:
        print(_summary(result))
    return 0


def _summary(result: "FineTuningResult") -> str:
    told = result.measured["domains_told_apart"]
    figures = ", ".join(f"{name} {value:.3f}" for name, value in result.measured.items() if isinstance(value, float))
    lines = [
        f"adapter    {result.adapter}",
        f"test rows  {figures}",
        f"domains    a new classifier tells them apart with accuracy {told['before']:.3f} before and "
        f"{told['after']:.3f} after (chance: 0.5)",
    ]
    lines += [f"WARNING    {warning}" for warning in result.warnings]
    lines += [f"next time  {each['advice']}: {each['because']}" for each in result.recommendations]
    return "\n".join([*lines, f"report     {result.report}"])

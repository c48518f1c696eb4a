"""`fedfin-institution finetune`: a base model, a task and a file to an adapter, with nobody else taking part."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import command
from common.errors import ConfigurationError
from common.tasks import TASKS

if TYPE_CHECKING:
    from client.experiment_log import ExperimentLog
    from client.finetune import Job, Outcome, TaskData

__all__ = ["add"]

_METHODS = ("lora", "qlora", "prefix_tuning", "p_tuning")
_STRATEGIES = ("single_task",)


def add(commands: command.Commands) -> None:
    """`finetune`."""
    text = "fine-tune alone: a base model, a task and a file to an adapter"
    example = "finetune --task sentiment_analysis --train train.csv --test test.csv --out runs/sentiment"
    parser = command.subcommand(commands, "finetune", _run, text, example)
    rows = parser.add_argument_group("rows (given again for each task of multi_task, in the same order)")
    rows.add_argument("--task", action="append", required=True, metavar="TASK", help=", ".join(TASKS))
    rows.add_argument("--train", action="append", required=True, type=Path, metavar="FILE", help="rows to train on")
    rows.add_argument("--test", action="append", required=True, type=Path, metavar="FILE", help="rows to measure on")
    rows.add_argument("--text-column", action="append", default=[], metavar="NAME", help="default: text")
    rows.add_argument("--label-column", action="append", default=[], metavar="NAME", help="default: label")
    labels = "a file with one label a line, in the order of the outputs (default: those of the training rows)"
    rows.add_argument("--labels", action="append", default=[], type=Path, metavar="FILE", help=labels)
    how = parser.add_argument_group("how")
    how.add_argument("--strategy", choices=_STRATEGIES, default="single_task")
    how.add_argument("--adapter", choices=_METHODS, default="lora", help="default: lora")
    how.add_argument("--base-model", default="minilm", metavar="NAME", help="minilm (default), a directory, or a name")
    how.add_argument("--pooling", choices=("mean", "native"), default="mean", help="what the head of a text reads")
    how.add_argument("--max-tokens", type=int, default=256, metavar="N", help="at which texts are cut (default: 256)")
    how.add_argument("--epochs", type=int, metavar="N")
    how.add_argument("--batch-size", type=int, metavar="N")
    how.add_argument("--learning-rate", type=float, metavar="RATE")
    how.add_argument("--rank", type=int, metavar="R", help="of lora and qlora")
    how.add_argument("--alpha", type=float, metavar="A", help="of lora and qlora (default: twice the rank)")
    how.add_argument("--target-modules", metavar="NAMES", help="all-linear (default), task, or names with commas")
    how.add_argument("--layers", metavar="WHICH", help="all (default), last:K, or none for the head alone")
    how.add_argument("--virtual-tokens", type=int, metavar="N", help="of prefix_tuning and p_tuning")
    share = "share of the training rows that chooses the epoch (default: 0.1)"
    how.add_argument("--validation", type=float, default=0.1, metavar="SHARE", help=share)
    how.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    how.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    how.add_argument("--seed", type=int, default=0, metavar="N")
    kinds = ("tensorboard", "mlflow", "wandb")
    how.add_argument("--track", choices=kinds, help="log every step for it too, below --out; nothing is sent")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the same command again continues")


def _run(given: argparse.Namespace) -> int:
    data = _data(given)
    from client.finetune import finetune
    from client.finetune.progress import Progress
    from client.tracker import Tracker

    tracker = Tracker(given.out)
    with Progress(quiet=given.json) as progress, _experiment_log(given) as logs:
        outcome = finetune(_job(given, data, progress, tracker, *logs))
    advice = tracker.finish(outcome)["recommendations"]
    if given.json:
        command.print_json({**outcome.to_json(), "recommendations": advice, "report": str(given.out / "report.html")})
    else:
        print(_summary(outcome))
        for each in advice:
            print(f"next time  {each['advice']}: {each['because']}")
        print(f"report     {given.out / 'report.html'}")
    return 0


@contextmanager
def _experiment_log(given: argparse.Namespace) -> "Iterator[list[ExperimentLog]]":
    """What `--track` asks for: one or none."""
    if given.track is None:
        yield []
        return
    from client.experiment_log import ExperimentLog

    log = ExperimentLog(given.track, given.out)
    try:
        yield [log]
    finally:
        log.close()


def _data(given: argparse.Namespace) -> "tuple[TaskData, ...]":
    """Read each task's files; the test rows are held to the labels of the training rows."""
    from client.finetune.job import TaskData
    from client.finetune.rows import read_label_file, read_labelled
    from common.tasks import task

    kinds = [task(name) for name in given.task]
    count = len(kinds)
    for name in ("train", "test"):
        if len(getattr(given, name)) != count:
            raise ConfigurationError(
                f"--{name} is given {len(getattr(given, name))} times: give it once for each --task"
            )
    texts = _each(given.text_column, count, "text", "--text-column")
    classes = _each(given.label_column, count, "label", "--label-column")
    files = _each(given.labels, count, None, "--labels")
    found = []
    for kind, train, test, text, label, file in zip(kinds, given.train, given.test, texts, classes, files, strict=True):
        rows = read_labelled(kind, train, text, label, read_label_file(file) if file else ())
        found.append(TaskData(kind, rows, read_labelled(kind, test, text, label, rows.labels)))
    return tuple(found)


def _each(values: Sequence[Any], count: int, default: Any, name: str) -> list[Any]:
    if len(values) not in (0, 1, count):
        raise ConfigurationError(f"{name} is given {len(values)} times: give it once, or once for each --task")
    return list(values) * (count if len(values) == 1 else 1) or [default] * count


def _job(given: argparse.Namespace, data: "tuple[TaskData, ...]", *observers: Any) -> "Job":
    from client.finetune import AdapterChoice, Job, TrainingChoice

    modules = given.target_modules
    if modules not in (None, "task", "all-linear"):
        modules = tuple(modules.split(","))
    return Job(
        data=data,
        out=given.out,
        strategy=given.strategy,
        base_model=given.base_model,
        pooling=given.pooling,
        max_tokens=given.max_tokens,
        adapter=AdapterChoice(
            method=given.adapter,
            rank=given.rank,
            alpha=given.alpha,
            target_modules=modules,
            layers=given.layers,
            virtual_tokens=given.virtual_tokens,
        ),
        training=TrainingChoice(
            epochs=given.epochs,
            batch_size=given.batch_size,
            learning_rate=given.learning_rate,
            validation=given.validation,
            precision=given.precision,
            gradient_checkpointing=given.gradient_checkpointing,
        ),
        seed=given.seed,
        device=given.device,
        observers=observers,
    )


def _summary(outcome: "Outcome") -> str:
    lines = [f"adapter    {outcome.adapter}"]
    lines += [f"{name:10} {value:.4f}" for name, value in outcome.metrics.items() if isinstance(value, float)]
    lines.append(
        f"trained    {outcome.trainable_parameters:,} of {outcome.total_parameters:,} parameters "
        f"({outcome.parameter_efficiency:.2%}) in {outcome.seconds:.0f} s, {outcome.peak_memory_bytes / 2**20:,.0f} MiB"
    )
    return "\n".join(lines)

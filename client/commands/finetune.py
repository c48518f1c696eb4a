"""`fedfin-institution finetune`: a base model, a task and a file to an adapter, with nobody else taking part."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.commands.finetune_options import STRATEGIES, add_finetune_options
from client.commands.options import ENVIRONMENT, probes_of, refuse_absent
from common import cli
from common.config.sections import did_you_mean
from common.errors import ConfigurationError
from common.tasks import Head, Task, task

if TYPE_CHECKING:
    from client.finetune import FineTuningJob, FineTuningResult, Previous, PrivacyOptions, TaskData
    from common.config.answers import Answers
    from common.data.datasets import Dataset

__all__ = ["add"]

_ELSEWHERE = {
    "federated": "a federation trains with others: fedfin-institution join, and on one machine fedfin-simulate run",
    "domain_adversarial": "it needs the text of a second domain: fedfin-institution domain-adversarial",
    "continual_pretraining": "it reads text without labels: fedfin-institution adapt",
    "distillation": "it follows a training: fedfin-institution stages --student-blocks N",
    "stages": "it is a command: fedfin-institution stages",
}
"""Strategies that are no option of this command, and the command that has them."""


def add(commands: cli.Commands) -> None:
    """`finetune`."""
    what = "fine-tune alone: a base model, a task and a file to an adapter"
    example = "finetune --task sentiment_analysis --train train.csv --test test.csv --out runs/sentiment"
    parser = cli.subcommand(commands, "finetune", _run, what, example)
    add_finetune_options(parser)


def _run(args: argparse.Namespace) -> int:
    from client.finetune import finetune
    from client.tracking.progress_bar import ProgressBar

    with ProgressBar(quiet=args.json) as progress:
        outcome = finetune(_job(args, progress))
    if args.json:
        cli.print_json(outcome.to_json())
        return 0
    print(_summary(outcome))
    for warning in outcome.warnings:
        print(f"WARNING    {warning}")
    for each in outcome.recommendations:
        print(f"next time  {each['advice']}: {each['because']}")
    print(f"report     {outcome.report}")
    return 0


def _data(args: argparse.Namespace) -> "tuple[TaskData, ...]":
    """Read each task's files. Test rows must have labels of the training rows."""
    from client.finetune.job import TaskData
    from common.data.labels import read_label_file
    from common.data.reading import refuse_unused_kinds

    kinds = [task(name) for name in args.task]
    for name in ("train", "test"):
        if len(getattr(args, name)) != len(kinds):
            count = len(getattr(args, name))
            raise ConfigurationError(f"--{name} is given {count} times: give it once for each --task")
    files = _each(args, "labels", None)
    found = []
    for place, (kind, train, test, file) in enumerate(zip(kinds, args.train, args.test, files, strict=True)):
        if file and kind.head.writes_text:
            raise ConfigurationError(f"--labels is given, but {kind.name} writes text: leave it out")
        labels = read_label_file(file) if file else _previous_labels(args, kind)
        labels = labels or _declared_labels(args, kind)
        answers = _answers(args, kind)
        rows = _read(args, place, train, labels, answers=answers)
        refuse_unused_kinds(rows, "--answers")
        found.append(TaskData(kind, rows, _read(args, place, test, rows.labels, rows.numbered, answers)))
    return tuple(found)


def _answers(args: argparse.Namespace, kind: Task) -> "Answers":
    """Return the declared answers: those of the option, or of the institution's settings."""
    from client.institution.directory import InstitutionDirectory
    from common.config.answers import read_answers

    if args.answers is not None:
        return read_answers(args.answers, kind)
    home = _home(args)
    data = None if home is None or kind.head is not Head.INSTRUCTION else InstitutionDirectory(home).settings().data
    return data.answers if data else {}


def _is_private(args: argparse.Namespace) -> bool:
    return args.privacy is not None or args.target_epsilon is not None


def _declared_labels(args: argparse.Namespace, kind: Task) -> Sequence[str]:
    """Return the labels of a private training: those of the institution's settings, or else the task's own."""
    if not _is_private(args) or kind.head.writes_text or args.strategy == "multi_task":
        return ()
    from client.institution.directory import InstitutionDirectory

    home = _home(args)
    data = None if home is None else InstitutionDirectory(home).settings().data
    labels = (data.labels if data else ()) or kind.labels
    if not labels:
        raise ConfigurationError(
            f"task {kind.name} has no labels of its own, and with privacy they must not come from the rows: give "
            "--labels FILE, or name them in [data] labels of institution.toml"
        )
    return labels


def _read(
    args: argparse.Namespace,
    place: int,
    path: Path,
    labels: Sequence[str],
    numbered: Sequence[str] = (),
    answers: "Answers | None" = None,
) -> "Dataset":
    from common.data.reading import read_labelled

    kind = task(args.task[place])
    text, label = (_each(args, name, None)[place] for name in ("text_column", "label_column"))
    private = _is_private(args) and bool(labels or answers)
    return read_labelled(path, kind, text, label, labels, numbered=numbered, leave_out_others=private, answers=answers)


def _previous_labels(args: argparse.Namespace, kind: Task) -> Sequence[str]:
    """Those of the adapter that is continued."""
    if args.previous is None:
        return ()
    from common.adapters.manifest import read_manifest

    return read_manifest(args.previous)[0].tasks.get(kind.name, ())


def _previous(args: argparse.Namespace, labels: Sequence[str]) -> "Previous | None":
    from client.finetune import Previous

    if args.strategy != "incremental":
        for name in ("previous", "previous_test", "previous_train"):
            if getattr(args, name) is not None:
                raise ConfigurationError(
                    "--from, --previous-test and --previous-train belong to --strategy incremental: leave them out"
                )
        return None
    for name, shown in (("previous", "--from"), ("previous_test", "--previous-test")):
        if getattr(args, name) is None:
            raise ConfigurationError(f"{shown} is missing: --strategy incremental needs it")
    old = None if args.previous_train is None else _read(args, 0, args.previous_train, labels)
    return Previous(args.previous, _read(args, 0, args.previous_test, labels), old)


def _each(args: argparse.Namespace, name: str, default: Any) -> list[Any]:
    """One value for each task, of an option that may be given once for all of them."""
    values, count = getattr(args, name), len(args.task)
    if len(values) not in (0, 1, count):
        option = f"--{name.replace('_', '-')}"
        raise ConfigurationError(f"{option} is given {len(values)} times: give it once, or once for each --task")
    return list(values) * (count if len(values) == 1 else 1) or [default] * count


def _job(args: argparse.Namespace, *observers: Any) -> "FineTuningJob":
    from client.finetune import AdapterOptions, FineTuningJob, TrainingOptions

    _check_strategy(args.strategy)
    if args.strategy == "single_task" and len(args.task) > 1:
        raise ConfigurationError("--task is given several times: add --strategy multi_task, or give one")
    data = _data(args)
    refuse_absent(args)
    modules = args.target_modules
    if modules not in (None, "task", "all-linear"):
        modules = tuple(modules.split(","))
    return FineTuningJob(
        data=data,
        out=args.out,
        strategy=args.strategy,
        base_model=args.base_model,
        pooling=args.pooling,
        max_tokens=args.max_tokens,
        adapter=AdapterOptions(
            method=args.adapter,
            rank=args.rank,
            alpha=args.alpha,
            dropout=args.dropout,
            target_modules=modules,
            layers=args.layers,
            preset=args.preset,
            virtual_tokens=args.virtual_tokens,
            prompt_text=args.prompt_text,
        ),
        training=TrainingOptions(
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            validation=args.validation_fraction,
            precision=args.precision,
            gradient_checkpointing=args.gradient_checkpointing,
        ),
        privacy=_privacy(args),
        institution=_home(args),
        previous=_previous(args, data[0].train.labels),
        seed=args.seed,
        device=args.device,
        max_hours=args.max_hours,
        max_memory_gb=args.max_memory_gb,
        probes=probes_of(args),
        log_to=args.log_to,
        observers=observers,
    )


def _check_strategy(name: str) -> None:
    if name in _ELSEWHERE:
        raise ConfigurationError(f"--strategy {name}: {_ELSEWHERE[name]}")
    if name not in STRATEGIES:
        hint = did_you_mean(name, (*STRATEGIES, *_ELSEWHERE))
        raise ConfigurationError(f"--strategy is {name[:40]}: {hint} use {', '.join(STRATEGIES)}".replace(":  ", ": "))


def _privacy(args: argparse.Namespace) -> "PrivacyOptions | None":
    from client.finetune import PrivacyOptions

    if args.privacy is not None and args.target_epsilon is not None:
        raise ConfigurationError("--privacy and --target-epsilon exclude each other: give one of them")
    if args.privacy is None and args.target_epsilon is None:
        if args.delta is not None:
            raise ConfigurationError(
                "--delta is given without privacy: add --target-epsilon or --privacy, or leave --delta out"
            )
        return None
    return PrivacyOptions(level=args.privacy, epsilon=args.target_epsilon, delta=args.delta)


def _home(args: argparse.Namespace) -> Path | None:
    """Return the institution's directory that `--home` or the environment names, if any."""
    return args.home or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)


def _summary(outcome: "FineTuningResult") -> str:
    from client.finetune.training.time_budget import describe_time_budget

    lines = [f"adapter    {outcome.adapter}", *_figures(outcome.measured)]
    lines.append(
        f"trained    {outcome.trainable_parameters:,} of {outcome.total_parameters:,} parameters "
        f"({outcome.parameter_efficiency:.2%}) in {outcome.seconds:.0f} s, {outcome.peak_memory_bytes / 2**20:,.0f} MiB"
    )
    if outcome.encoder:
        lines.append(f"encoder    general sentences keep their vectors to {outcome.encoder['similarity']:.2f} (cosine)")
    for name, figures in outcome.encoder.get("probes", {}).items():
        before, after = (figures[side]["accuracy"] for side in ("before", "after"))
        lines.append(f"           {name}, a linear head: accuracy {before:.3f} -> {after:.3f}")
    if hours := describe_time_budget(outcome.train_metrics):
        lines.append(f"hours      {hours}")
    if outcome.privacy is not None:
        lines.append(f"privacy    epsilon {outcome.privacy.epsilon:.3f} at delta {outcome.privacy.delta:g} for one row")
    return "\n".join(lines)


def _figures(metrics: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}", *_figures(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}  {value:.4f}")
    return lines

"""Show the progress of a simulation in a terminal, and its closing tables."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.events import Observer, StepEvent
from common.progress import MinuteLines, time_left
from common.protocol.outcomes import RoundOutcome
from common.report.by_institution import describe_losers, describe_say, describe_spreads, little_say, mean_shares
from common.report.formatting import METRICS, format_metric
from common.report.records import InstitutionFigures, ResultRecord, RoundRecord
from common.tasks import task
from common.weighting import weights
from server.rounds import checkpoint

if TYPE_CHECKING:
    from simulation.workspace import Workspace

__all__ = ["Display"]


class Display(Observer):
    """Shows progress on standard error and the closing tables on standard output.

    Args:
        quiet: Whether to leave out the tables.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._rounds: TaskID | None = None
        self._training: TaskID | None = None
        self._history: list[RoundRecord] = []
        self._names: list[str] = []
        self._planned = self._first = 0
        self._stage = ""
        self._last: StepEvent | None = None
        self._started = time.monotonic()

    @contextmanager
    def running(self, workspace: "Workspace") -> Iterator[None]:
        """Show one bar for the rounds and one for the training under way."""
        names, config = sorted(workspace.federation.train), workspace.config
        adapted = workspace.models.adapted
        self._names, self._planned, self._stage = names, config.rounds, ""
        kept = workspace.out / "checkpoint"
        self._first = checkpoint.load(kept).next_round - 1 if checkpoint.exists(kept) else 0
        self._console.print(
            f"[bold]{config.name}[/bold]: {len(names)} institutions, {config.rounds} rounds, "
            f"{adapted.parameters_trained:,} of {adapted.parameters_total:,} parameters trained"
        )
        for name, shown in sorted(workspace.federation.names.items()):
            self._console.print(f"{name}: {shown}", markup=False, highlight=False)
        for note in workspace.federation.notes:
            self._console.print(note, markup=False, highlight=False)
        declared = {name: workspace.settings(name).release.declared_units for name in names}
        unheard = describe_say(little_say(weights(declared, config.aggregation.weighting)))
        if unheard:
            self._console.print(f"[bold red]{unheard}[/bold red]", soft_wrap=True, highlight=False)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        if not self._console.is_interactive:
            with MinuteLines(self._line, lambda text: self._console.print(text, soft_wrap=True, highlight=False)):
                yield
            return
        with Progress(*columns, console=self._console, transient=True) as progress:
            self._progress = progress
            self._rounds = progress.add_task("rounds", total=config.rounds)
            self._training = progress.add_task("training", total=1)
            yield
        self._progress = None

    def on_step(self, event: StepEvent) -> None:
        """Move the bar of the training under way."""
        self._last, self._stage = event, ""
        if self._progress and self._training is not None:
            self._progress.update(
                self._training,
                description=f"{event.institution} trains",
                completed=event.step,
                total=event.steps,
            )

    def on_round(self, record: RoundRecord) -> None:
        """Show the outcome of a round in one line."""
        self._history.append(record)
        if self._progress and self._rounds is not None:
            self._progress.update(self._rounds, completed=record.round)
        shown = {name: value for name, value in (record.metrics or {}).items() if name in ("accuracy", "perplexity")}
        accuracy = "".join(f"{name} {value:.{_DECIMALS.get(name, 3)}f}, " for name, value in shown.items())
        spent = f"largest epsilon {_epsilon(max(record.epsilon.values()))}, " if record.epsilon else ""
        if record.epsilon_alone:
            spent += f"without the noise of others {_epsilon(max(record.epsilon_alone.values()))}, "
        refused = {name: outcome for name, outcome in record.outcomes.items() if outcome != RoundOutcome.CONTRIBUTED}
        tail = f", without {', '.join(f'{n} ({o})' for n, o in sorted(refused.items()))}" if refused else ""
        self._console.print(
            f"round {record.round}: {len(record.contributed)} of {len(record.asked)} contributed, {accuracy}{spent}"
            f"{record.bytes_up / 1e6:.2f} MB up, {record.seconds:.1f} s{tail}",
            soft_wrap=True,
        )

    def on_stage(self, text: str) -> None:
        """Show the step that begins."""
        self._stage = text
        self._console.print(f"[dim]{text} ...[/dim]")

    def _line(self) -> str:
        """Return what is done and what is left, for a reader without a terminal."""
        minutes = (time.monotonic() - self._started) / 60
        if self._stage:
            return f"{self._stage}, {minutes:.0f} min so far"
        done, here, left = self._first + len(self._history), "", self._planned - self._first
        share = len(self._history) / left if left else 0.0
        if self._last is not None and self._last.institution in self._names:
            step, place = self._last, self._names.index(self._last.institution)
            here = f", {step.institution} at step {step.step} of {step.steps}"
            share += (place + step.step / step.steps) / len(self._names) / max(1, left)
        way = time_left(share, time.monotonic() - self._started)
        return f"round {min(done + 1, self._planned)} of {self._planned}{here}, {minutes:.0f} min so far{way}"

    def summary(self, workspace: "Workspace", result: ResultRecord) -> None:
        """Show the closing tables, and the paths of adapter and report."""
        if self._quiet:
            return
        console = Console()
        history = checkpoint.load(workspace.out / "checkpoint").history
        names = sorted(workspace.federation.train)
        console.print(_rounds_table(workspace, history))
        console.print(_institutions_table(history, names))
        if any(figures.shared for figures in result.institutions):
            console.print(_own_rows_table(result.institutions))
        if result.baselines:
            console.print(_comparison_table(result))
        before = result.before_round_1
        if "perplexity" in before:
            console.print(
                f"perplexity before round 1: {before['perplexity']:.1f}; now: {result.metrics['perplexity']:.1f}"
            )
        for line in (*describe_spreads(result), describe_say(result.little_say), describe_losers(result.institutions)):
            if line:
                console.print(line, highlight=False)
        if result.noise == "fixed":
            console.print("[bold red]The noise was fixed by a seed: this run protects nobody.[/bold red]")
        console.print(f"adapter: {result.adapter}\nreport:  {result.report}", soft_wrap=True, highlight=False)


_DECIMALS = {"perplexity": 1}


def _epsilon(value: float | None) -> str:
    """Return epsilon at two decimals, rounded up."""
    return "-" if value is None else f"{math.ceil(value * 100 - 1e-9) / 100:.2f}"


def _epsilon_range(record: RoundRecord) -> str:
    """Return the smallest and the largest epsilon that an institution has spent, or the one figure if all agree."""
    spent = record.epsilon.values()
    least, most = _epsilon(min(spent, default=None)), _epsilon(max(spent, default=None))
    return most if least == most else f"{least} to {most}"


def _rounds_table(workspace: "Workspace", history: Sequence[RoundRecord]) -> Table:
    table = Table(title="By round: the hub's test set, and epsilon spent by the institutions so far")
    second = "perplexity" if not task(workspace.config.task).head.is_linear else "weighted_f1"
    for column in ("round", "members", "accuracy", second.replace("_f1", " F1"), "epsilon", "MB sent"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in history:
        metrics = record.metrics or {}
        table.add_row(
            str(record.round),
            f"{len(record.contributed)}/{len(record.asked)}",
            *(f"{metrics[key]:.{_DECIMALS.get(key, 3)}f}" if key in metrics else "-" for key in ("accuracy", second)),
            _epsilon_range(record),
            f"{(record.bytes_up + record.bytes_down) / 1e6:.2f}",
        )
    return table


def _institutions_table(history: Sequence[RoundRecord], names: Sequence[str]) -> Table:
    table = Table(title="By institution: rounds that it counted in, mean share in the weights, epsilon spent")
    table.add_column("institution", overflow="fold")
    for column in ("rounds", "share", "epsilon"):
        table.add_column(column, justify="right", no_wrap=True)
    shares = mean_shares(history)
    unheard = little_say(shares)
    for name in names:
        counted = sum(name in record.contributed for record in history)
        spent = max((record.epsilon[name] for record in history if name in record.epsilon), default=None)
        share = f"{shares[name]:.3f}{' !' if name in unheard else ''}" if name in shares else "-"
        table.add_row(name, f"{counted} of {len(history)}", share, _epsilon(spent))
    return table


def _own_rows_table(institutions: Sequence[InstitutionFigures]) -> Table:
    """Return the figures of each institution on its own test rows: alone, the global model, its personal model."""
    metric = next((m for m in METRICS if all(m in figures.shared for figures in institutions)), "perplexity")
    table = Table(title=f"By institution, on its own test rows: {METRICS.get(metric, metric)}")
    table.add_column("institution", overflow="fold")
    shown = [model for model in ("alone", "shared", "personal") if any(getattr(f, model) for f in institutions)]
    for model in shown:
        table.add_column("global" if model == "shared" else model, justify="right", no_wrap=True)
    for figures in institutions:
        values = (getattr(figures, model).get(metric) for model in shown)
        table.add_row(figures.name, *(format_metric(value) for value in values))
    return table


def _comparison_table(result: ResultRecord) -> Table:
    table = Table(title="What the federation gained, on the same test set")
    table.add_column("model", overflow="fold")
    for column in ("accuracy", "weighted F1", "epsilon"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for row in result.baselines:
        spent = _epsilon(row.epsilon)
        table.add_row(row.name, format_metric(row.accuracy), format_metric(row.weighted_f1), spent, row.note)
    highest = max((e for e in result.epsilon.values() if e is not None), default=None)
    table.add_section()
    table.add_row(
        "[bold]the federation[/bold]",
        f"[bold]{result.metrics['accuracy']:.3f}[/bold]",
        f"[bold]{result.metrics['weighted_f1']:.3f}[/bold]",
        _epsilon(highest),
        "only sealed adapters travelled",
    )
    return table

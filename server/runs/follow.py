"""Show the rounds of a run, from its files, until it ends. This is the display of `fedfin-hub run`."""

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from common.errors import ServiceError
from common.protocol.outcomes import RoundOutcome
from common.report.by_institution import describe_say
from common.report.formatting import format_epsilon
from common.report.json_reader import read_json
from common.report.records import ResultRecord, RoundRecord
from server.runs.records import Progress, RunEnding
from server.runs.run import FINISHED, Run
from server.runs.status import is_started

__all__ = ["follow"]

_PERIOD_S = 0.3
_GONE_AFTER_S = 5.0
"""Seconds without a started hub after which following ends."""


def follow(run: Run, quiet: bool = False) -> dict[str, Any]:
    """Show each finished round on standard error, and return the ending with the result of a finished run.

    Args:
        run: The run.
        quiet: Whether to leave out the closing lines.

    Raises:
        ServiceError: The hub was stopped meanwhile. The run goes on when the hub is started again.
        CheckpointError: A file of the run is damaged.
    """
    console, shown = Console(stderr=True), 0
    config, _ = run.config()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"run {run.name} starts", total=config.rounds)
        gone_since: float | None = None
        while True:
            ending = run.ending()
            history = run.history()
            for record in history[shown:]:
                console.print(_describe_round(record), soft_wrap=True, highlight=False)
            shown = len(history)
            if ending is not None:
                break
            progress.update(bar, completed=run.next_round() - 1, description=_describe_progress(run.progress()))
            if is_started(run.home):
                gone_since = None
            else:
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > _GONE_AFTER_S:
                    raise ServiceError(
                        f"run {run.name}: the hub is not started: the run goes on after `fedfin-hub start`"
                    )
            time.sleep(_PERIOD_S)
    result = _read_result(run) if ending.state == FINISHED else None
    if not quiet:
        _show_ending(run, ending, result)
    return (result.to_json() if result else {}) | {"run": run.name, "state": ending.state, "message": ending.message}


def _describe_progress(progress: Progress | None) -> str:
    if progress is None:
        return "preparing"
    waiting = ", ".join(progress.waiting) or "no institution"
    return f"round {progress.round}: {len(progress.answered)} answered, waiting for {waiting}"


def _describe_round(record: RoundRecord) -> str:
    metrics = record.metrics or {}
    name = "perplexity" if "perplexity" in metrics else "accuracy"
    measured = f"{name} {metrics[name]:.3f}, " if name in metrics else ""
    largest = max(record.epsilon.values(), default=None)
    spent = "" if largest is None else f"largest epsilon {math.ceil(largest * 100 - 1e-9) / 100:.2f}, "
    others = {name: outcome for name, outcome in sorted(record.outcomes.items()) if outcome != RoundOutcome.CONTRIBUTED}
    tail = f", without {', '.join(f'{name} ({outcome})' for name, outcome in others.items())}" if others else ""
    missed = "" if record.weights else " (quorum missed)"
    return (
        f"round {record.round}{missed}: {len(record.contributed)} of {len(record.asked)} contributed, "
        f"{measured}{spent}{record.bytes_up / 1e6:.2f} MB up, {record.seconds:.1f} s{tail}"
    )


def _read_result(run: Run) -> ResultRecord:
    path = run.directory / "result.json"
    return ResultRecord.from_json(str(path), read_json(path))


def _show_ending(run: Run, ending: RunEnding, result: ResultRecord | None) -> None:
    if result is not None:
        show = Console().print
        show(f"run {run.name} is finished", soft_wrap=True, highlight=False)
        for each in result.institutions:
            share = "none" if each.share is None else f"{each.share:.3f}"
            show(
                f"  {each.name}: share in the weights {share}, epsilon {format_epsilon(each.epsilon)}", highlight=False
            )
        if result.little_say:
            show(describe_say(result.little_say), soft_wrap=True, highlight=False)
        show(f"adapter: {result.adapter}\nreport:  {result.report}", soft_wrap=True, highlight=False)
        return
    line = ending.message or f"run {run.name}: {ending.state}"
    Console(stderr=True).print(f"{line}\ncontinue with: fedfin-hub resume {run.name}", soft_wrap=True, highlight=False)

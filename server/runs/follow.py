"""Follow a run from its files until it ends: what `fedfin-hub run` shows."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from common.errors import ServiceError
from server.runs.run import FINISHED, Run
from server.runs.status import is_started

__all__ = ["follow"]

_LOOK_EVERY_S = 0.3
_GONE_AFTER_S = 5.0


def follow(run: Run, quiet: bool = False) -> dict[str, Any]:
    """Show each round as it ends, on standard error; returns the outcome, with the result of a finished run.

    Raises:
        ServiceError: the hub was stopped meanwhile; the run goes on when it is started again.
    """
    console, shown = Console(stderr=True), 0
    config, _ = run.config()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"run {run.name} starts", total=config.rounds)
        gone_since: float | None = None
        while True:
            outcome = run.outcome()
            history = run.history()
            for record in history[shown:]:
                console.print(_round(record), soft_wrap=True, highlight=False)
            shown = len(history)
            if outcome is not None:
                break
            progress.update(bar, completed=run.next_round() - 1, description=_under_way(run.progress()))
            if is_started(run.home):
                gone_since = None
            else:
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > _GONE_AFTER_S:
                    raise ServiceError(f"run {run.name}: the hub is not started; the run goes on when it is again")
            time.sleep(_LOOK_EVERY_S)
    result = _result(run) if outcome["state"] == FINISHED else {}
    if not quiet:
        _close(run, outcome, result)
    return {**result, "run": run.name, **outcome}


def _under_way(progress: Mapping[str, Any]) -> str:
    if not progress:
        return "preparing"
    waiting = ", ".join(progress["waiting"]) or "nobody"
    return f"round {progress['round']}: {len(progress['answered'])} answered, waiting for {waiting}"


def _round(record: Mapping[str, Any]) -> str:
    metrics, epsilon = record.get("metrics") or {}, record.get("epsilon") or {}
    shown = "perplexity" if "perplexity" in metrics else "accuracy"
    measured = f"{shown} {metrics[shown]:.3f}, " if shown in metrics else ""
    spent = f"largest epsilon {math.ceil(max(epsilon.values()) * 100 - 1e-9) / 100:.2f}, " if epsilon else ""
    out = {name: outcome for name, outcome in sorted(record["outcomes"].items()) if outcome != "contributed"}
    tail = f"; not in it: {', '.join(f'{name} ({why})' for name, why in out.items())}" if out else ""
    missed = "" if record.get("weights") else " (quorum missed)"
    return (
        f"round {record['round']}{missed}: {len(record['contributed'])} of {len(record['asked'])} contributed, "
        f"{measured}{spent}{record['bytes_up'] / 1e6:.2f} MB up, {record['seconds']:.1f} s{tail}"
    )


def _result(run: Run) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run.directory / "result.json").read_bytes())
    return value


def _close(run: Run, outcome: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    if outcome["state"] == FINISHED:
        print_line = Console().print
        print_line(f"run {run.name} is finished", soft_wrap=True, highlight=False)
        print_line(f"adapter: {result['adapter']}\nreport:  {result['report']}", soft_wrap=True, highlight=False)
        return
    said = outcome["message"] or f"run {run.name}: {outcome['state']}"
    Console(stderr=True).print(f"{said}\ncontinue with: fedfin-hub resume {run.name}", soft_wrap=True, highlight=False)

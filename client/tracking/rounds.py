"""Record an institution's part of a federation, in `runs/RUN` of its directory: `tracker.json` and `report.html`.

Both hold losses of the institution's rows without noise. Only the owner can read them, and nothing of them is sent: the
hub keeps a record of its own, of what it may see. A round counts as an epoch.
"""

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from client.tracking.history import read_history
from client.tracking.tracker import Tracker
from common.errors import CheckpointError
from common.events import EpochEvent, Observer, StepEvent

__all__ = ["RoundTracker", "run_directory"]

log = logging.getLogger("fedfin.institution")


_PAGE_EVERY_S = 60.0
"""Seconds between two pages of one run. Rounds may be much shorter, and a page takes longer than their other work."""


def run_directory(home: Path, run_id: str) -> Path:
    """Return the directory of the record of a run, below the institution's directory."""
    return home / "runs" / re.sub(r"^\.+|[^A-Za-z0-9 _.-]", "_", run_id)


class RoundTracker(Observer):
    """An observer of one round of one run. The record of the rounds before it is continued.

    A record that cannot be written is told in the log, and stops no training. That holds for every error. A loss that
    is not finite depends on the rows, and a round that failed for it would tell the hub so.
    """

    def __init__(self, directory: Path, round_: int, rounds: int) -> None:
        """Observe a round.

        Args:
            directory: From `run_directory`.
            round_: Number of the round, from 1.
            rounds: Rounds of the run.
        """
        self._round, self._rounds, self._failed = round_, rounds, False
        self._losses: list[float] = []
        self._last: StepEvent | None = None
        self._seconds = 0.0
        with contextlib.suppress(Exception):  # there may be no earlier record, or one with numbers that are not finite
            self._seconds = read_history(directory / "tracker.json").steps[-1].seconds if round_ > 1 else 0.0
        self._directory, self._tracker = directory, Tracker(directory)

    def on_step(self, event: StepEvent) -> None:
        """Keep the step, counted over all rounds."""
        self._losses.append(event.loss)
        self._last = replace(
            event,
            step=(self._round - 1) * event.steps + event.step,
            steps=self._rounds * event.steps,
            epoch=self._round,
            seconds=self._seconds + event.seconds,
        )
        self._write(lambda: self._tracker.on_step(self._last) if self._last else None)

    def finish(self, run: Mapping[str, Any], findings: Path | None = None) -> None:
        """Close the round, and write the record, and the page if it is older than a minute or the round is the last.

        Args:
            run: Facts about the run and its settings, with the keys of `FineTuningResult.to_json`.
            findings: File with the findings about the rows, which the report shows. It may be absent.
        """
        last = self._last
        if last is None:
            return
        event = EpochEvent(
            epoch=self._round,
            epochs=self._rounds,
            step=last.step,
            train_loss=sum(self._losses) / len(self._losses),
            metrics={},
            best=True,
            seconds=last.seconds,
        )
        self._write(lambda: self._tracker.keep_epoch(event))
        is_due = self._round == self._rounds or _age_s(self._directory / "report.html") > _PAGE_EVERY_S
        self._write(lambda: self._tracker.finish(_with_findings(run, findings), is_due))

    def _write(self, call: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:
            self._failed = True
            why = error if isinstance(error, OSError | CheckpointError) else type(error).__name__
            log.warning("the record of this run could not be written: %s", why)


def _age_s(path: Path) -> float:
    """Return the seconds since a file was written. Infinity if there is none."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except OSError:
        return math.inf


def _with_findings(run: Mapping[str, Any], path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return run
    with contextlib.suppress(OSError, ValueError):  # none yet, or a damaged file
        return {**run, "settings": {**run["settings"], "inspection": json.loads(path.read_bytes())}}
    return run

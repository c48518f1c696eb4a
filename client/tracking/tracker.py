"""Record the course of a training in `tracker.json` and `report.html`, in the directory of the training.

Both hold losses and metrics of the institution's rows without noise. Only their owner can read them, and they must stay
inside the institution.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from client.tracking.history import History, read_history, summarise
from client.tracking.recommendations import recommend
from client.tracking.report import render
from client.tracking.resources import Meter, Usage
from common.errors import CheckpointError
from common.events import EpochEvent, Observer, StepEvent
from common.files import write_atomic

__all__ = ["Tracker"]

_WRITE_EVERY_S = 30.0


class Tracker(Observer):
    """An observer of one training, see `common.events.Observer`.

    If a training is continued, so is its record. Steps of the last half minute before the interruption may be missing.
    """

    def __init__(self, out: Path, memory_limit: int | None = None) -> None:
        """Observe a training.

        Args:
            out: Directory of the training.
            memory_limit: Bytes that it may use. None takes all of the machine's, or of its GPU's.
        """
        self._path, self._report = out / "tracker.json", out / "report.html"
        self._meter = Meter()
        self._limit = memory_limit or self._meter.memory_limit
        self._steps: list[StepEvent] = []
        self._epochs: list[EpochEvent] = []
        self._usage: list[Usage] = []
        self._begun = False
        self._seconds = 0.0  # of the readings of an interrupted training
        self._written = time.monotonic()

    def on_step(self, event: StepEvent) -> None:
        """Keep the step, and a reading of the machine."""
        self._continue_at(event.step)
        self._steps.append(event)
        if reading := self._meter.read():
            self._usage.append(replace(reading, seconds=self._seconds + reading.seconds))
        if time.monotonic() - self._written > _WRITE_EVERY_S:
            self._write({})

    def on_epoch(self, event: EpochEvent) -> None:
        """Keep the epoch, and write the record so far."""
        self.keep_epoch(event)
        self._write({})

    def keep_epoch(self, event: EpochEvent) -> None:
        """Keep the epoch of a training that `finish` follows at once. The file is then written once."""
        self._continue_at(event.step + 1)
        self._epochs.append(event)

    @property
    def has_record(self) -> bool:
        """Whether something was observed, now or before."""
        return self._begun or self._path.exists()

    def finish(self, run: Mapping[str, Any], page: bool = True) -> dict[str, Any]:
        """Add the result, write both files, and return the content of `tracker.json`.

        Args:
            run: The result, as in `FineTuningResult.to_json`.
            page: Whether to write `report.html` too.

        Raises:
            CheckpointError: The training was finished before, and its record is absent or damaged.
        """
        if not self._begun:  # finished before: nothing was trained now
            self._take(read_history(self._path))
        content, track = self._write(run)
        if page:
            write_atomic(self._report, render(track).encode(), mode=0o600)
        return content

    def _continue_at(self, step: int) -> None:
        """Before the first event, read the steps before `step` that an interrupted training recorded."""
        if self._begun:
            return
        self._begun = True
        if step == 1 or not self._path.exists():
            return
        try:
            before = read_history(self._path)
        except CheckpointError:
            return  # the record is a by-product: its loss must not stop the training
        self._take(before, step)

    def _take(self, track: History, step: float = math.inf) -> None:
        self._steps = [each for each in track.steps if each.step < step]
        self._epochs = [each for each in track.epochs if each.step < step]
        self._usage = list(track.usage)
        self._seconds = self._usage[-1].seconds if self._usage else 0.0

    def _write(self, run: Mapping[str, Any]) -> tuple[dict[str, Any], History]:
        self._written = time.monotonic()
        track = History(tuple(self._steps), tuple(self._epochs), tuple(self._usage), self._limit, run)
        content: dict[str, Any] = track.to_json()
        if run:
            content["summary"] = asdict(summarise(track))
            content["recommendations"] = [asdict(each) for each in recommend(track)]
        write_atomic(self._path, (json.dumps(content, allow_nan=False) + "\n").encode(), mode=0o600)
        return content, track

"""Observe a training alone: its record, its report, and a log for another tool, in the training's directory."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from client.finetune.result import FineTuningResult
from client.tracking.kinds import LogKind
from common.events import Observer
from common.files import write_json

__all__ = ["Observation", "copy_record"]


class Observation:
    """The observers of one training. A context that closes them."""

    def __init__(self, out: Path, log_to: LogKind | None, observers: Sequence[Observer]) -> None:
        """Prepare the observers. Nothing is written yet.

        Args:
            out: Directory of the training.
            log_to: Another tool that each step is logged for.
            observers: Those of the caller.

        Raises:
            ConfigurationError: The package of the other tool is not installed.
        """
        from client.tracking.tracker import Tracker  # loads torch

        self._out = out
        self._tracker = Tracker(out)
        self._logs: list[Any] = []
        if log_to is not None:
            from client.tracking.experiment_log import ExperimentLog

            self._logs.append(ExperimentLog(log_to, out))
        self.observers: tuple[Observer, ...] = (*observers, self._tracker, *self._logs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs:
            log.close()

    def finish(self, result: FineTuningResult) -> FineTuningResult:
        """Write the record and its report, and return the result with them.

        A training that was finished before keeps its record. One of an earlier release may have none.

        Raises:
            CheckpointError: The record of a training that was finished before is damaged.
        """
        if not self._tracker.has_record:
            return result
        content = self._tracker.finish(result.to_json())
        advice = tuple(content["recommendations"])
        result = replace(result, report=self._out / "report.html", recommendations=advice)
        if (self._out / "result.json").is_file():  # some strategies keep theirs in a directory below
            write_json(self._out / "result.json", result.to_json(), 0o600)
        return result


def copy_record(source: Path, out: Path) -> None:
    """Copy the record and the report of one training to the directory of the job that it belongs to."""
    for name in ("tracker.json", "report.html"):
        if (source / name).is_file():
            shutil.copy(source / name, out / name)
            (out / name).chmod(0o600)

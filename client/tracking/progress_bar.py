"""Show the progress of a training: a bar in a terminal, otherwise a line a minute."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from common.events import EpochEvent, Observer, StepEvent
from common.progress import MinuteLines, time_left

__all__ = ["ProgressBar"]


class ProgressBar(Observer):
    """An observer that draws on standard error. With `quiet` it draws nothing.

    If standard error is no terminal, it prints one line for each epoch and one for each minute, and no bar.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, quiet=quiet)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("reading model and rows", total=None)
        self._stack = ExitStack()
        self._started = time.monotonic()
        self._stage, self._last = "reading model and rows", None

    _last: StepEvent | None

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._bar.start()
            self._stack.callback(self._bar.stop)
        elif not self._quiet:
            self._stack.enter_context(MinuteLines(self._line, self._print))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def on_step(self, event: StepEvent) -> None:
        """Move the bar."""
        self._last = event
        text = f"epoch {event.epoch}, loss {event.loss:.3f}"
        self._bar.update(self._task, completed=event.step, total=event.steps, description=text)

    def on_epoch(self, event: EpochEvent) -> None:
        """Print loss and metrics of the epoch."""
        figures = ", ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
        mark = " (best)" if event.best and event.metrics else ""
        text = f"epoch {event.epoch}: loss {event.train_loss:.3f}"
        self._print(f"{text}; {figures}{mark}" if figures else text)

    def on_stage(self, text: str) -> None:
        """Print the step that begins."""
        self._stage, self._last = text, None
        self._print(f"{text} ...")

    def _line(self) -> str:
        if self._last is None:
            return f"{self._stage}, {time.monotonic() - self._started:.0f} s so far"
        step = self._last
        left = time_left(step.step / step.steps, step.seconds)
        return f"epoch {step.epoch}, step {step.step} of {step.steps}, loss {step.loss:.3f}{left}"

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)

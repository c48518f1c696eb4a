"""Show the progress of a training in a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from client.finetune.events import EpochEvent, StepEvent

__all__ = ["ProgressBar"]


class ProgressBar:
    """An observer that draws on standard error. With `quiet` it draws nothing.

    If standard error is no terminal, it prints one line for each epoch and no bar.
    """

    def __init__(self, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("reading model and rows", total=None)

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_interactive:
            self._bar.stop()

    def on_step(self, event: StepEvent) -> None:
        """Move the bar."""
        text = f"epoch {event.epoch}, loss {event.loss:.3f}"
        self._bar.update(self._task, completed=event.step, total=event.steps, description=text)

    def on_epoch(self, event: EpochEvent) -> None:
        """Print loss and metrics of the epoch."""
        figures = ", ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
        mark = " (best)" if event.best and event.metrics else ""
        text = f"epoch {event.epoch}: loss {event.train_loss:.3f}"
        self._console.print(f"{text}; {figures}{mark}" if figures else text, soft_wrap=True, highlight=False)

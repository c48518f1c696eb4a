"""The small files in a run's directory that the hub's processes leave for each other."""

from dataclasses import dataclass

from common.report.json_reader import Record

__all__ = ["Executor", "Progress", "RunEnding", "Submission"]


@dataclass(frozen=True, kw_only=True)
class RunEnding(Record):
    """The way in which a run ended: one of the constants of `server.runs.run`, and a line for the operator."""

    state: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Submission(Record):
    """The last hand-over of a run to Flower.

    Attributes:
        flower_run: Flower's id of the run that executes it.
        attempt: Number of hand-overs since the last finished round, from 1.
        round: The round that was due at the hand-over.
    """

    flower_run: str
    attempt: int = 1
    round: int = 1


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    """The round under way: its number, and the institutions that have answered and have not.

    `time` is the time of the last change, in seconds since 1970.
    """

    round: int
    answered: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Executor(Record):
    """The process that executes a run, or was the last to."""

    flower_run: str
    pid: int

"""The tools that a training can also be logged for, and the names of everything that the room writes. No torch."""

from typing import Literal, get_args

__all__ = ["LOG_KINDS", "RECORDS", "LogKind"]

LogKind = Literal["tensorboard", "mlflow", "wandb"]
LOG_KINDS: tuple[str, ...] = get_args(LogKind)

RECORDS = ("tracker.json", "report.html", *LOG_KINDS)
"""Names that a training's directory may hold beside those of the training itself."""

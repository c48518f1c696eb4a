"""Divide a task's rows into those that train, those that choose the epoch, and those that measure."""

import logging
from dataclasses import dataclass

from client.finetune.job import FineTuningJob, TaskData
from common.data.datasets import Dataset
from common.data.splits import hold_out, remove_test_rows, validate_split
from common.evaluation.task_metrics import selection_metric

__all__ = ["SplitData", "split_rows"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitData:
    """The rows of one task.

    Attributes:
        data: The task and its rows as the caller gave them.
        train: Rows to train on.
        validation: Rows to choose the epoch by. None if too few could be held out.
        num_removed: Number of training rows that were left out because their text is in the test rows.
    """

    data: TaskData
    train: Dataset
    validation: Dataset | None
    num_removed: int

    @property
    def metric(self) -> str:
        """Name of the metric that chooses the epoch."""
        return selection_metric(self.data.task, self.data.train.labels)

    def sizes(self) -> dict[str, int]:
        """Return how many rows train, validate and test, and how many were left out."""
        held = 0 if self.validation is None else len(self.validation)
        return {
            "train": len(self.train),
            "validation": held,
            "test": len(self.data.test),
            "left_out": self.num_removed,
        }


def split_rows(job: FineTuningJob, data: TaskData) -> SplitData:
    """Return the rows of one task of `job`, divided. With privacy all rows train, because no private row may choose.

    Raises:
        DataError: The rows cannot be learned from or measured on.
    """
    validate_split(data.train, data.test)
    train, num_removed = remove_test_rows(data.train, data.test, data.task.head.is_language_modelling)
    if num_removed:
        log.warning("%s: %d training rows have a text of the test rows, and are left out", data.train.name, num_removed)
    validate_split(train, data.test)
    share = 0.0 if job.privacy is not None else job.training.validation
    train, validation = hold_out(train, share, job.seed)
    return SplitData(data, train, validation, num_removed)

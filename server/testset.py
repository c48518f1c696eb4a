"""The hub's public test set, read before a run starts and again by the process that plays it."""

from common.config import RunConfig
from common.data import Dataset, read_conll, read_examples
from common.tasks import Head, task
from server.settings import TestData

__all__ = ["read_test_set"]


def read_test_set(data: TestData, config: RunConfig) -> Dataset:
    """The rows of the hub's test set, with the run's labels.

    Raises:
        DataError: the file cannot be used.
    """
    if task(config.task).head is Head.TOKEN:
        return read_conll(data.test, config.labels)
    return read_examples(data.test, data.text_column, data.label_column, config.labels)

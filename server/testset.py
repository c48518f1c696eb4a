"""The hub's public test set, read before a run starts and again by the process that plays it."""

from common.config import RunConfig
from common.data import Dataset, read_conll, read_examples
from common.errors import ConfigurationError
from common.tasks import Head, task
from server.settings import TestData

__all__ = ["read_test_set"]


def read_test_set(data: TestData, config: RunConfig) -> Dataset:
    """The rows of the hub's test set, with the run's labels.

    Raises:
        DataError: the file cannot be used.
        ConfigurationError: the hub cannot evaluate this task.
    """
    head = task(config.task).head
    if head is Head.SEQUENCE:
        return read_examples(data.test, data.text_column, data.label_column, config.labels)
    if head is Head.TOKEN:
        return read_conll(data.test, config.labels)
    raise ConfigurationError(f"data.test: the hub does not evaluate {config.task}: leave [data] out")

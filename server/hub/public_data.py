"""Read the hub's public test set and text, before a run starts and again in the process that executes it."""

from common.config.run import RunConfig
from common.data.corpora import public_texts, read_text_dataset
from common.data.datasets import Dataset, validate
from common.data.reading import log_notes, refuse_unused_kinds, to_dataset
from common.data.records import Columns, read_records, scores_as_classes
from common.tasks import task
from server.hub.config import TestData

__all__ = ["read_public_texts", "read_test_set"]


def read_test_set(data: TestData, config: RunConfig) -> Dataset:
    """Return the rows of the hub's test set, with the run's labels.

    Raises:
        DataError: The file cannot be used.
    """
    kind = task(config.task)
    if kind.head.is_language_modelling:
        return read_text_dataset(data.test, data.text_column)
    records = read_records(data.test, kind.head, Columns(text=data.text_column, label=data.label_column))
    records = scores_as_classes(records, kind.head, config.labels or kind.labels)
    rows = to_dataset(records, kind.head, config.labels, kind.labels, answers=config.answers)
    refuse_unused_kinds(rows, "task.answers")
    log_notes(rows)
    validate(rows)
    return rows


def read_public_texts(data: TestData | None, config: RunConfig) -> list[str]:
    """Return the text on which a missing language-model head is warmed up.

    Args:
        data: The run's public data. If None, the text is `common.data.corpora.general_text`.
        config: The run.

    Raises:
        DataError: The file or folder cannot be used.
    """
    if data is None:
        return public_texts(None, 0, config.seed)
    return public_texts(data.public, data.public_texts, config.seed)

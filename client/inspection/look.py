"""The look at the rows within a training: findings that matter are logged, and all of them are kept for the record.

A training never depends on it. It reads rows and changes none, it draws no random number, and if it fails, the training
goes on without it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from client.inspection.inspection import inspect_rows
from client.inspection.report import notable
from common.data.datasets import Dataset
from common.events import Stopping

__all__ = ["look_at_rows"]


def look_at_rows(
    groups: Iterable[Mapping[str, Dataset]],
    log: logging.Logger,
    tokenizer: Any = None,
    max_tokens: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any] | None:
    """Inspect rows, and log a warning for each finding that matters.

    Args:
        groups: For each task its splits by name, such as "train" and "test". Texts are compared within a group.
        log: Receives the warnings.
        tokenizer: Of the base model, for lengths in tokens.
        max_tokens: Tokens at which texts are cut.
        progress: See `inspect_rows`.

    Returns:
        The findings as `Inspection.to_json` has them, or None if the look failed.
    """
    found: dict[str, Any] = {"splits": [], "shared": [], "nearly_shared": []}
    try:
        for splits in groups:
            for kind, findings in inspect_rows(splits, tokenizer, max_tokens, progress).to_json().items():
                found[kind] += findings
        for line in notable(found):
            log.warning("%s", line)
    except Stopping:
        raise
    except Exception as error:
        # Its type without its text, which may quote private values.
        log.warning("the rows could not be looked at: %s", type(error).__name__)
        return None
    return found

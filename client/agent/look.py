"""The agent's look at its rows: in the background, for the institution alone.

The agent answers before the look has begun, and while it lasts. The look pauses as long as a question is at work, so no
round waits for it. It hands nothing to the rest of the agent, so no answer can depend on a finding.
"""

import logging
import threading
from pathlib import Path

from client.agent.server import AgentService
from client.inspection.look import look_at_rows
from common.data.datasets import Dataset
from common.events import Stopping
from common.files import write_json

__all__ = ["look_in_background"]

log = logging.getLogger("fedfin.institution")


def look_in_background(name: str, rows: Dataset, path: Path, service: AgentService) -> threading.Thread:
    """Start a thread that looks at the rows once, logs the findings that matter, and writes all of them to a file.

    Lengths in tokens are not measured: only a run says which base model reads the rows.

    Args:
        name: Of the rows, for the findings.
        rows: The institution's training rows.
        path: File of the findings (0600).
        service: The agent's service. The look pauses while it answers, and ends with it.
    """
    thread = threading.Thread(target=_look, args=(name, rows, path, service), name="look", daemon=True)
    thread.start()
    return thread


def _look(name: str, rows: Dataset, path: Path, service: AgentService) -> None:
    try:
        found = look_at_rows(({name: rows},), log, progress=lambda _: service.give_way())
        if found is not None:
            write_json(path, found, 0o600)
    except Stopping:
        return
    except OSError as error:
        log.warning("%s could not be written: %s", path.name, type(error).__name__)

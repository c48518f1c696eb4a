"""The record of a personal part: its method, its cost, and its figures on the institution's own test rows.

Starts without torch. Nothing in it is ever sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.report.json_reader import Record, read_json

__all__ = ["RECORD", "PersonalRecord", "read_record", "read_records"]

RECORD = "record.json"
"""Name of the file in the directory of a personal part."""


@dataclass(frozen=True, kw_only=True)
class PersonalRecord(Record):
    """The record of a personal part. It stays inside the institution.

    Attributes:
        run_id: Name of the run.
        method: Method of the run's [personalisation].
        noised: Whether everything that was computed from private rows was noised and charged.
        steps: Private steps that were charged for the personal part alone.
        finished: Whether the final global adapter has come and the personal model is made.
        refused: The reason why further steps were refused. The personal model is then the global one.
        metrics_shared, metrics_personal: Metrics of the global and of the personal model on the institution's own test
            rows. Empty without such rows. The global model of a run with own heads has none.
    """

    run_id: str = ""
    method: str = "none"
    noised: bool = True
    steps: int = 0
    finished: bool = False
    refused: str = ""
    metrics_shared: Mapping[str, float] = field(default_factory=dict)
    metrics_personal: Mapping[str, float] = field(default_factory=dict)


def read_record(directory: Path) -> PersonalRecord | None:
    """Return the record in the directory of a personal part. None if there is none.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = directory / RECORD
    value = read_json(path)
    return None if value is None else PersonalRecord.from_json(str(path), value)


def read_records(directory: Path) -> list[PersonalRecord]:
    """Return the record of every run in an institution's directory, by name of the run.

    Raises:
        CheckpointError: A file is damaged.
    """
    found = [read_record(path.parent) for path in (directory / "personal").glob(f"*/{RECORD}")]
    return sorted((record for record in found if record is not None), key=lambda record: record.run_id)

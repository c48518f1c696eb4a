"""The directory of a personal part keeps the own tensors of the last two rounds, and its record."""

from pathlib import Path

import numpy as np
import pytest

from client.personalisation.part import PersonalPart
from client.personalisation.record import PersonalRecord, read_records
from common.errors import CheckpointError


def test_a_round_starts_from_the_own_tensors_of_the_last_earlier_one(tmp_path: Path) -> None:
    part = PersonalPart(tmp_path)
    assert part.before(1) == {}
    for round_ in (1, 2, 4):
        part.keep(round_, {"w": np.full(2, round_, np.float32)})
    assert [float(part.before(round_)["w"][0]) for round_ in (3, 4, 5)] == [2, 2, 4]
    assert part.before(2) == {}  # round 2 was answered: it cannot come again
    assert (tmp_path / "0000000004.safetensors").stat().st_mode & 0o077 == 0


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "0000000001.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="damaged: restore it from a backup"):
        PersonalPart(tmp_path).before(2)


def test_the_records_of_all_runs_are_found_by_name_of_the_run(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []
    for place, run_id in (("b", "run 1"), ("a", "run 2")):
        PersonalPart(tmp_path / "personal" / place).write(PersonalRecord(run_id=run_id, method="after", steps=3))
    assert [(record.run_id, record.steps) for record in read_records(tmp_path)] == [("run 1", 3), ("run 2", 3)]

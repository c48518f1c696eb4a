"""A run begins in an empty directory, and goes on in a complete one."""

from pathlib import Path

import pytest

from common.errors import CheckpointError, ConfigurationError
from common.files import write_json
from simulation.run_directory import read_note, refuse_used


def test_a_directory_that_holds_anything_is_not_begun_anew(tmp_path: Path) -> None:
    refuse_used(tmp_path)
    refuse_used(tmp_path / "absent")
    (tmp_path / "file").write_text("kept")
    for used in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigurationError, match="not empty: choose another"):
            refuse_used(used)


def test_the_note_is_read_whole_or_refused(tmp_path: Path) -> None:
    note = tmp_path / "run.json"
    write_json(note, {"run_id": "a", "source": "/x/a.toml", "data": "0"})
    assert read_note(tmp_path) == ("a", Path("/x/a.toml"), "0")
    write_json(note, {"run_id": "a", "source": None, "data": "0"})
    assert read_note(tmp_path) == ("a", None, "0")
    for damaged in ("", "[]", '{"run_id": "a"}', '{"run_id": "a", "source": 1, "data": "0"}'):
        note.write_text(damaged)
        with pytest.raises(CheckpointError, match="not the directory of a run"):
            read_note(tmp_path)

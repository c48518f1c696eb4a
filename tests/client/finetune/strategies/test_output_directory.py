"""An output directory belongs to the job that began it, and no other files are overwritten."""

import json
from pathlib import Path

import pytest

from client.finetune.strategies.output_directory import ALONE, claim, refuse_another, refuse_foreign
from common.errors import CheckpointError, ConfigurationError, FedfinError
from common.identity.keys import PrivateKeys

KEYS = PrivateKeys.generate(ALONE)


def test_an_absent_or_empty_directory_is_free(tmp_path: Path) -> None:
    refuse_another(tmp_path, "a")
    refuse_another(tmp_path / "out", "a")
    refuse_foreign(tmp_path / "out", ())


def test_a_claimed_directory_serves_its_own_job_alone(tmp_path: Path) -> None:
    claim(tmp_path / "out", "a", KEYS)
    refuse_another(tmp_path / "out", "a")
    with pytest.raises(CheckpointError, match="another training"):
        refuse_another(tmp_path / "out", "b")


def test_a_second_claim_changes_neither_identity_nor_keys(tmp_path: Path) -> None:
    claim(tmp_path / "out", "a", KEYS)
    claim(tmp_path / "out", "b", PrivateKeys.generate(ALONE))
    assert json.loads((tmp_path / "out" / "job.json").read_text()) == {"identity": "a"}
    assert PrivateKeys.load(tmp_path / "out" / "keys").public == KEYS.public


def test_the_keys_of_an_institution_stay_in_its_own_directory(tmp_path: Path) -> None:
    claim(tmp_path / "out", "a", PrivateKeys.generate("north"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["job.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "1"])
def test_a_damaged_identity_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(CheckpointError, match="damaged"):
        refuse_another(tmp_path, "a")


def test_other_files_are_refused_and_drafts_of_an_interrupted_job_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigurationError, match="not an empty directory"):
        refuse_another(tmp_path, "a")
    with pytest.raises(ConfigurationError, match="other files"):
        refuse_foreign(tmp_path, {"stage-1"})
    refuse_foreign(tmp_path, {"notes.txt"})
    (tmp_path / ".draft").touch()
    refuse_foreign(tmp_path, {"notes.txt"})
    for refuse in (refuse_another, refuse_foreign):
        with pytest.raises(ConfigurationError, match="other"):
            refuse(tmp_path / "notes.txt", "a")


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for keys in (KEYS, PrivateKeys.generate("north")):
        with pytest.raises(FedfinError, match="cannot be written") as caught:
            claim(tmp_path / "file" / "out", "a", keys)
        assert "\n" not in str(caught.value)

"""`fedfin-institution personal` shows each personal model with its figures, and marks one that must not leave."""

import json
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.commands import personal
from client.institution.directory import InstitutionDirectory
from client.personalisation.part import PersonalPart
from client.personalisation.record import PersonalRecord


@pytest.fixture
def home(tmp_path: Path) -> InstitutionDirectory:
    return InstitutionDirectory.create(tmp_path / "bank", "bank")


def write(home: InstitutionDirectory, **values: Any) -> PersonalRecord:
    record = PersonalRecord(run_id="run-1", finished=True, **values)
    PersonalPart(home.personal("run-1")).write(record)
    return record


def shown(home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([personal.__name__.rpartition(".")[2], "--home", str(home.directory)]) == 0
    return capsys.readouterr().out


def test_the_figures_of_both_models_stand_side_by_side(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no run had a personal part" in shown(home, capsys)
    record = write(home, method="after", metrics_shared={"accuracy": 0.5}, metrics_personal={"accuracy": 0.75})
    printed = shown(home, capsys)
    assert "accuracy on own test rows: 0.750, global model 0.500" in printed
    assert "NOT PRIVATE" not in printed
    assert "WORSE" not in printed
    assert main(["personal", "--home", str(home.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [record.to_json()]


def test_an_institution_whose_own_model_is_worse_than_the_global_one_is_told(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, method="after", metrics_shared={"accuracy": 0.75}, metrics_personal={"accuracy": 0.5})
    assert "WORSE OFF: 25.0 points below the global model" in shown(home, capsys)


def test_a_part_without_noise_is_marked_and_a_refusal_is_given(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, method="prior", noised=False, refused="the limit would be passed")
    printed = shown(home, capsys)
    assert "NOT PRIVATE: its model must not leave" in printed
    assert "further steps were refused: the limit would be passed" in printed

"""The closing tables: readable in 80 columns with four institutions and with twelve."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.report.records import ResultRecord, RoundRecord
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState
from simulation.display import Display

MANY = [f"district_{number:02}" for number in range(12)]


def shown(tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The output of two rounds in which the last institution stayed out of the second."""
    history = tuple(
        RoundRecord(
            round=number,
            asked=tuple(names),
            contributed=tuple(names[: len(names) + 1 - number]),
            outcomes={},
            metrics={"accuracy": 0.5, "perplexity": 900.0},
            by_institution=None,
            epsilon={name: number + place / 10 for place, name in enumerate(names[: len(names) + 1 - number])},
            bytes_up=1_000_000,
            bytes_down=0,
            seconds=1.0,
            adapter_digest="",
        )
        for number in (1, 2)
    )
    checkpoint.save(
        RunState("run", "digest", 3, {"head": np.zeros(1, np.float32)}, history=history), tmp_path / "checkpoint"
    )
    workspace: Any = SimpleNamespace(
        out=tmp_path,
        config=SimpleNamespace(task="masked_language_modelling"),
        federation=SimpleNamespace(train=dict.fromkeys(names)),
    )
    result = ResultRecord(noise="system", adapter="a", report="r")
    Display().summary(workspace, result)
    return capsys.readouterr().out


@pytest.mark.parametrize("names", [["commonwealth_bank", "metropolitan_savings", "north", "partially_mutual"], MANY])
def test_every_line_fits_80_columns_and_no_name_is_cut(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = shown(tmp_path, names, capsys)
    assert max(map(len, printed.splitlines())) <= 80
    assert all(name in printed for name in names)
    assert "…" not in printed


def test_each_institution_has_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown(tmp_path, MANY, capsys)
    assert "1.00 to 2.10" in printed
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if "district_" in line}
    assert set(rows) == set(MANY)
    assert "2 of 2" in rows["district_00"]
    assert "2.00" in rows["district_00"]
    assert "1 of 2" in rows["district_11"]
    assert "2.10" in rows["district_11"]

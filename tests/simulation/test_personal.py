"""A simulated federation with personal parts: on both engines, resumed, and with label sets that differ."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from client.institution.directory import InstitutionDirectory
from client.personalisation.record import PersonalRecord, read_record
from common.adapters.manifest import read_manifest
from server.report.report import write_report
from server.rounds import coordinator
from simulation.cli import main
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import SIZES, write_simulation

pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = {
    "prior": 'method = "prior"',
    "head": 'method = "head"',
    "proximal": 'method = "proximal"\nproximal_weight = 1.0',
    "after": 'method = "after"\nsteps = 2',
}


def personal(directory: Path, method: str, **settings: Any) -> Path:
    return write_simulation(directory, extra=f"[personalisation]\n{METHODS[method]}", **settings)


def records(out: Path) -> dict[str, PersonalRecord]:
    run_id = json.loads((out / "run.json").read_text())["run_id"]
    found = {
        name: read_record(InstitutionDirectory(out / "institutions" / name).personal(run_id)) for name in sorted(SIZES)
    }
    return {name: record for name, record in found.items() if record is not None}


def models(out: Path) -> dict[str, bytes]:
    """The personal model of each institution, as bytes."""
    return {
        path.relative_to(out / "institutions").parts[0]: path.read_bytes()
        for path in (out / "institutions").glob("*/personal/*/adapter/adapter_model.safetensors")
    }


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_every_institution_a_model_and_the_report_draws_all_three(
    tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    result = run_simulation(Workspace.create(personal(tmp_path, method), out), baselines=True)
    assert set(models(out)) == set(SIZES)
    assert all(value is not None and value <= 8 for value in result.epsilon.values())
    for figures in result.institutions:
        assert figures.alone["accuracy"] >= 0
        assert figures.personal["accuracy"] == records(out)[figures.name].metrics_personal["accuracy"]
        assert bool(figures.shared) == (method != "head")
    assert set(result.over_institutions) == {"alone", "personal"} | ({"shared"} if method != "head" else set())
    page = write_report(out).read_text()
    assert "personal model" in page
    assert "alone" in page
    assert json.loads((out / "institutions" / "west" / "statement.json").read_text())["personal"] == method


def test_a_run_cut_while_the_final_adapter_is_delivered_still_gives_every_institution_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = personal(tmp_path, "after", noise="fixed")
    expected = run_simulation(Workspace.create(config, tmp_path / "plain"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("client.agent.agent.finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(Workspace.create(config, tmp_path / "cut"))
    resumed = run_simulation(Workspace.reopen(tmp_path / "cut"))
    assert models(tmp_path / "cut") == models(tmp_path / "plain") != {}
    assert resumed.adapter_digest == expected.adapter_digest


def test_flower_and_a_resumed_run_end_in_the_same_personal_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = personal(tmp_path, "proximal", noise="fixed")
    run_simulation(Workspace.create(config, tmp_path / "plain"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coordinator, "receipts", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(Workspace.create(config, tmp_path / "cut"))
    run_simulation(Workspace.reopen(tmp_path / "cut"))
    assert models(tmp_path / "cut") == models(tmp_path / "plain")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    run_simulation(Workspace.create(config, tmp_path / "flower"), engine="flower")
    assert models(tmp_path / "flower") == models(tmp_path / "plain")


def test_with_own_heads_each_institution_has_its_own_labels(tmp_path: Path) -> None:
    config = personal(tmp_path, "head")
    text = config.read_text().replace('["negative", "positive"]', '["negative", "positive", "up", "down"]')
    config.write_text(text)
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    other = {"negative": "down", "positive": "up"}
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | ({"label": other[row["label"]]} if row["bank"] == "south" else {}) for row in rows)
    out = tmp_path / "out"
    result = run_simulation(Workspace.create(config, out))
    labels = {
        name: read_manifest(next((out / "institutions" / name / "personal").iterdir()))[0].tasks["sentiment_analysis"]
        for name in SIZES
    }
    assert labels == {"north": ("negative", "positive"), "south": ("up", "down"), "west": ("negative", "positive")}
    assert "accuracy" not in result.metrics
    assert all(figures.personal for figures in result.institutions)


def test_what_cannot_work_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, why in (
        ('method = "proximal"', "personalisation.proximal_weight is missing"),
        ('method = "prior"\nsteps = 3', "personalisation.steps is given, but method"),
        ('method = "prior"\nwithout_noise = true', "personalisation.without_noise is true, but"),
        ('method = "heads"', "did you mean head?"),
    ):
        config = write_simulation(tmp_path, extra=f"[personalisation]\n{extra}")
        assert main(["run", str(config), "--out", str(tmp_path / "out"), "--json"]) == 2
        error = capsys.readouterr().err.strip()
        assert why in error
        assert len(error.splitlines()[-1]) == len(error) or "checking" in error
        assert not (tmp_path / "out").exists()

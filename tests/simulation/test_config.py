"""A simulation's file: every field wrong in turn, paths, and every file that is shipped."""

import dataclasses
import datetime
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from common.config.run import RunConfig
from common.errors import ConfigurationError
from simulation.config import DataConfig, InstitutionsConfig, SimulationConfig, load_simulation
from tests.common.toml_text import to_toml

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path
    for room in ("benchmarks", "simulation", "common", "client", "server")
    for path in (ROOT / room).rglob("*.toml")
    if path.name != "domains.toml"  # words, not a run
)
RUN: dict[str, dict[str, Any]] = {
    "run": {"name": "desks", "seed": 1, "rounds": 3},
    "task": {"name": "sentiment_analysis"},
    "training": {"local_steps": 5, "sampling_rate": 0.25, "learning_rate": 4.0},
    "privacy": {"mode": "high", "delta": 1e-4},
}
BY_COLUMN = {"train": "rows.csv", "institution_column": "desk"}
BY_SKEW = {"train": "rows.csv", "institutions": 4, "dirichlet_alpha": 0.5}
NAN = math.nan

WRONG: dict[str, list[Any]] = {
    "data.source": ["real", "", 3],
    "data.train": ["", " ", 3, ["rows.csv"], "$HOME/rows.csv", "$FEDFIN_DATAX/rows.csv"],
    "data.test": ["", 3, "$HOME/rows.csv"],
    "data.text_column": ["", 3, ["text"], "label"],
    "data.label_column": ["", 3, "text"],
    "data.institution_column": ["", 3, "text"],
    "data.customer_column": ["", 3, "label"],
    "data.split_column": ["", 3, "label"],
    "data.test_values": ["2020", [3], ["a"]],  # the last without split_column
    "data.public": ["", 3, "$HOME/rows.txt"],
    "data.public_texts": [15, -1, 16.5, "16"],
    "data.institutions": [0, -4, 2.5, "4", True],
    "data.dirichlet_alpha": [0.0, -1.0, NAN, "0.5"],
    "data.test_fraction": [0, 1, 0.0, 1.0, -0.2, NAN, "0.2"],
    "institutions.max_epsilon": [0.0, -8, NAN, math.inf, "8"],
    "institutions.max_epsilon_alone": [0.0, -8, NAN, math.inf, "8"],
    "institutions.declare_units": [1, "true", 0.0],
    "institutions.noise": ["none", "", True],
}


def write(directory: Path, data: Any, **tables: Any) -> Path:
    path = directory / "desks.toml"
    path.write_text(to_toml(RUN | {"data": data} | tables), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_simulation(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def loaded(path: Path) -> SimulationConfig:
    return load_simulation(path)


def test_every_field_has_wrong_values_here() -> None:
    fields = {cls.place(field.name) for cls in (DataConfig, InstitutionsConfig) for field in dataclasses.fields(cls)}
    assert set(WRONG) == fields


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (place, value)
        for place, values in WRONG.items()
        for value in [*values, {"a": 1}, [[1]], datetime.date(2020, 1, 1)]
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, place: str, value: Any) -> None:
    section, key = place.split(".")
    data = dict(BY_SKEW if key in ("institutions", "dirichlet_alpha") else BY_COLUMN)
    tables: dict[str, dict[str, Any]] = {"data": data, "institutions": {}}
    tables[section][key] = value
    message = refused(write(tmp_path, tables["data"], institutions=tables["institutions"]))
    # Two columns of one name is a fault of both, told at the first.
    assert f" {place} " in message or (key.endswith("_column") and "named twice" in message)


@pytest.mark.parametrize("place", WRONG)
def test_a_misspelt_key_is_refused_and_the_nearest_offered(tmp_path: Path, place: str) -> None:
    section, key = place.split(".")
    tables: dict[str, dict[str, Any]] = {"data": dict(BY_COLUMN), "institutions": {}}
    tables[section][f"{key}x"] = 1
    assert f" {section}.{key}x is not a known key: did you mean {key}?" in refused(
        write(tmp_path, tables["data"], institutions=tables["institutions"])
    )


COMBINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "data.train is missing"),
    "no division": ({"train": "rows.csv"}, "data.institution_column is missing: give exactly one of"),
    "two divisions": (BY_COLUMN | BY_SKEW, "data.institution_column stands beside"),
    "alpha alone": (BY_COLUMN | {"dirichlet_alpha": 1.0}, "data.dirichlet_alpha goes with data.institutions"),
    "two tests": (BY_COLUMN | {"test": "test.csv", "split_column": "split"}, "data.split_column stands beside"),
    **{
        f"synthetic {key}": ({"source": "synthetic", key: value}, f"data.{key} is given, but")
        for key, value in (BY_COLUMN | BY_SKEW | {"test": "test.csv", "split_column": "split"}).items()
    },
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_values_that_do_not_go_together_are_refused(tmp_path: Path, case: str) -> None:
    data, expected = COMBINATIONS[case]
    assert expected in refused(write(tmp_path, data))


@pytest.mark.parametrize("limits", [{"max_epsilon_alone": 5.0}, {"max_epsilon": 8.0, "max_epsilon_alone": 5.0}])
def test_a_lower_limit_without_the_noise_of_others_is_refused_by_its_own_name(
    tmp_path: Path, limits: dict[str, float]
) -> None:
    with pytest.raises(ConfigurationError, match=r"desks.toml: institutions.max_epsilon_alone is below max_epsilon"):
        load_simulation(write(tmp_path, BY_COLUMN, institutions=limits))


@pytest.mark.parametrize("key", ["quorum", "institutions_per_round"])
def test_more_institutions_than_there_are_is_refused(tmp_path: Path, key: str) -> None:
    aggregation = {"quorum": 1, "institutions_per_round": 5} | {key: 5}
    message = refused(write(tmp_path, BY_SKEW, aggregation=aggregation))
    assert "is more than data.institutions = 4" in message


def test_the_run_is_checked_and_the_sections_are_known(tmp_path: Path) -> None:
    assert " run.rounds is 0" in refused(write(tmp_path, BY_COLUMN, run=RUN["run"] | {"rounds": 0}))
    assert "[institution] is not a known section: did you mean institutions?" in refused(
        write(tmp_path, BY_COLUMN, institution={})
    )
    assert " data is 3: write it as a table" in refused(write(tmp_path, 3))
    path = tmp_path / "without.toml"
    path.write_text(to_toml(RUN))
    assert "data is missing" in refused(path)
    assert "no such configuration file" in refused(tmp_path / "absent.toml")


def test_relative_paths_start_at_the_file_or_where_told(tmp_path: Path) -> None:
    path = write(tmp_path, BY_COLUMN | {"test": "../test.csv"})
    assert loaded(path).data.train == tmp_path / "rows.csv"
    assert loaded(path).data.test == tmp_path.parent / "test.csv"
    moved = load_simulation(path, relative_to=tmp_path / "elsewhere").data
    assert moved.train == tmp_path / "elsewhere" / "rows.csv"
    assert loaded(write(tmp_path, BY_COLUMN | {"train": "/rows.csv"})).data.train == Path("/rows.csv")


def test_the_data_directory_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, BY_COLUMN | {"train": "$FEDFIN_DATA/desks/rows.csv"})
    (tmp_path / "held").mkdir()
    monkeypatch.setenv("FEDFIN_DATA", str(tmp_path / "held"))
    assert loaded(path).data.train == tmp_path / "held" / "desks" / "rows.csv"
    monkeypatch.setenv("FEDFIN_DATA", str(tmp_path / "absent"))
    assert "data.train uses $FEDFIN_DATA, which is " in refused(path)


def test_without_it_the_shared_directory_is_taken_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, BY_COLUMN | {"train": "$FEDFIN_DATA/rows.csv"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FEDFIN_DATA", raising=False)
    assert "data.train uses $FEDFIN_DATA, which is not set: set FEDFIN_DATA" in refused(path)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert loaded(path).data.train == tmp_path / "shared" / "data" / "rows.csv"


def test_the_text_is_kept_to_the_byte(tmp_path: Path) -> None:
    path = write(tmp_path, {"source": "synthetic"})
    content = b"# caf\xc3\xa9\r\n" + path.read_bytes()
    path.write_bytes(content)
    simulation = loaded(path)
    assert simulation.text.encode() == content
    assert simulation.source == path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_is_valid(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDFIN_DATA", str(tmp_path))
    simulation = loaded(path)
    assert RunConfig.from_json(simulation.run.to_json()) == simulation.run
    assert simulation.institutions.noise == "system", "a shipped run must protect its records"
    if simulation.run.privacy.mode == "none":
        assert "without privacy" in simulation.text.splitlines()[0], "the first line says that it protects nothing"
    else:
        assert simulation.run.privacy.delta == 1e-4


def test_the_demo_and_the_benchmark_are_shipped() -> None:
    assert {"sentfin_desks.toml", "demo.toml"} <= {path.name for path in SHIPPED}
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "*.toml" in packaged["simulation"]
    assert "LICENSE" in {path.name for path in ROOT.iterdir()}


def test_set_replaces_a_value_and_the_kept_text_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, BY_COLUMN)
    changed = load_simulation(path, changes=["run.rounds=9", "task.name=document_classification"])
    assert changed.run.rounds == 9
    assert changed.run.task == "document_classification"
    (tmp_path / "kept.toml").write_text(changed.text)
    assert load_simulation(tmp_path / "kept.toml").run == changed.run
    with pytest.raises(ConfigurationError, match=r"section\.key=value"):
        load_simulation(path, changes=["rounds=9"])

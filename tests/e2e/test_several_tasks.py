"""Institutions train one adapter for several tasks, as they are deployed. Each holds rows of its own tasks alone."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, run_toml

SENTIMENT, RISK = "sentiment_analysis", "risk_classification"
LEVEL = {"negative": "high", "positive": "low"}
OWN = {"train.csv of north": [SENTIMENT], "train.csv of south": [RISK]}


def relabel(path: Path, tasks: list[str]) -> None:
    """Give row after row to one of `tasks` in turn."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows):
            kind = tasks[number % len(tasks)]
            label = LEVEL[row["label"]] if kind == RISK else row["label"]
            writer.writerow(row | {"label": f"{kind}/{label}"})


@pytest.fixture
def shared(hub: Hub) -> Iterator[Hub]:
    """The federation with such rows. Afterwards with those it had."""
    files = [hub.directory.parent / "test.csv", *(hub.institutions[name].directory / "train.csv" for name in BANKS)]
    before = {path: path.read_text() for path in files}
    for path in files:
        relabel(path, OWN.get(f"{path.name} of {path.parent.name}", [SENTIMENT, RISK]))
    try:
        yield hub
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_several_tasks_are_one_federated_task_and_each_is_measured(shared: Hub) -> None:
    labels = [f"{kind}/{label}" for kind, found in ((SENTIMENT, LEVEL), (RISK, LEVEL.values())) for label in found]
    text = run_toml(shared.directory.parent / "base").replace(f'"{SENTIMENT}"', '"multi_task"', 1)
    text = text.replace('labels = ["negative", "positive"]', f"labels = {labels}".replace("'", '"'))
    run = shared.run("aggregation.quorum=3", text=text)
    assert run.ended() == "finished"
    assert [set(record["contributed"]) for record in run.history()] == [set(BANKS)] * 2
    for record in run.history():
        assert all(any(key.startswith(kind) for key in record["metrics"]) for kind in (SENTIMENT, RISK))
    assert [charge.steps_done for name in BANKS for charge in charges(shared, name, run)] == [2] * 6

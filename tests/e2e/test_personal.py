"""Institutions with different label sets train one adapter with heads of their own, as they are deployed."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from client.institution.directory import InstitutionDirectory
from client.personalisation.record import read_record
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, command, run_toml, write_rows

OTHER = {"negative": "down", "positive": "up"}
"""Labels of the institution `south`."""


def relabel(path: Path) -> None:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows({**row, "label": OTHER[row["label"]]} for row in rows)


@pytest.fixture
def personal(hub: Hub) -> Iterator[Hub]:
    """The federation whose officers allow own heads. `south` has other labels. Afterwards as it was."""
    directories = {name: hub.institutions[name].directory for name in BANKS}
    files = [path / name for path in directories.values() for name in ("institution.toml", "train.csv")]
    before = {path: path.read_text() for path in files}
    for place, (name, path) in enumerate(directories.items()):
        hub.institutions[name].started.stop()
        write_rows(path / "own_test.csv", 20, 50 + place)
        labels = ""
        if name == "south":
            relabel(path / "train.csv")
            relabel(path / "own_test.csv")
            labels = 'labels = ["up", "down"]\n'
        settings = before[path / "institution.toml"]
        settings = settings.replace("[data]\n", f'[data]\ntest = "own_test.csv"\n{labels}')
        (path / "institution.toml").write_text(settings + '\n[personalisation]\nallowed = ["head"]\n')
    hub.start_institutions(BANKS)
    try:
        yield hub
    finally:
        for name in BANKS:
            hub.institutions[name].started.stop()
        for path, text in before.items():
            path.write_text(text)
        hub.start_institutions(BANKS)


def test_institutions_of_different_label_sets_end_with_heads_of_their_own(personal: Hub) -> None:
    hub = personal
    text = run_toml(hub.directory.parent / "base") + '[personalisation]\nmethod = "head"\n'
    run = hub.run("aggregation.quorum=3", text=text)
    assert run.ended() == "finished"
    assert [set(record["contributed"]) for record in run.history()] == [set(BANKS)] * 2
    assert run.audit("final_adapter_delivered")[0]["outcomes"] == dict.fromkeys(BANKS, "received")
    # The hub has no head but an untrained one, and no metrics.
    travelled = load_file(run.directory / "adapter" / "adapter_model.safetensors")
    assert all(not value.any() for name, value in travelled.items() if "lora_" not in name and name.endswith("bias"))
    assert "accuracy" not in json.loads((run.directory / "result.json").read_text())
    for name in BANKS:
        home = InstitutionDirectory(hub.institutions[name].directory)
        # The receipt is sent after the record is written, and the run ends after the receipts.
        record = read_record(home.personal(run.name))
        assert record is not None
        assert (record.method, record.noised, record.finished) == ("head", True, True)
        assert record.metrics_personal["accuracy"] >= 0
        assert [charge.steps_done for charge in charges(hub, name, run)] == [2, 2]
        shown = command("fedfin-institution", "personal", "--home", home.directory)["runs"]
        assert run.name in [each["run_id"] for each in shown]
    model = InstitutionDirectory(hub.institutions["south"].directory).personal(run.name) / "adapter"
    news = hub.directory.parent / "news.csv"
    news.write_text("text\nprofit rises strong grew\n")
    command("fedfin-institution", "predict", "--adapter", model, news, "--out", hub.directory.parent / "out.csv")
    assert (hub.directory.parent / "out.csv").read_text().splitlines()[0].endswith("p_up,p_down")

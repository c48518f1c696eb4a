"""Institutions teach one decoder together to respond to prompts, as they are deployed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.adapters.saving import TEMPLATE
from tests.client.finetune.example_data import save_tiny_writer
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, run_toml


@pytest.fixture
def instructed(hub: Hub) -> Iterator[Hub]:
    """The federation with its rows as prompts and completions. Afterwards with those it had."""
    root = hub.directory.parent
    save_tiny_writer(root / "writer")
    files: list[Path] = [root / "test.csv", *(hub.institutions[name].directory / "train.csv" for name in BANKS)]
    before = {path: path.read_text() for path in files}
    for path, text in before.items():
        path.write_text(text.replace("text,label", "prompt,completion", 1))
    try:
        yield hub
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_a_decoder_is_taught_together_and_judged_by_what_it_writes(instructed: Hub) -> None:
    text = run_toml(instructed.directory.parent / "writer").replace("sentiment_analysis", "instruction_tuning")
    run = instructed.run("aggregation.quorum=3", text=text.replace('labels = ["negative", "positive"]\n', ""))
    assert run.ended() == "finished"
    assert [set(record["contributed"]) for record in run.history()] == [set(BANKS)] * 2
    for record in run.history():
        assert {"accuracy", "perplexity", "valid_answers", "macro_f1"} == set(record["metrics"])
    assert [charge.steps_done for name in BANKS for charge in charges(instructed, name, run)] == [2] * 6
    assert (run.directory / "adapter" / TEMPLATE).is_file()

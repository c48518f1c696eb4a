"""Institutions pretrain together on unlabelled text, under differential privacy."""

import json
from pathlib import Path

import pytest

from common.base_models.extend import write_extended_base
from common.data.corpora import read_corpus
from common.errors import ConfigurationError
from simulation.cli import main
from simulation.loading import load_federation
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.client.finetune.example_data import save_tiny_writer
from tests.simulation.helpers import write_simulation


def write_masked(directory: Path, **settings: str) -> Path:
    """The small simulation as a language model's: no labels, the public text a file beside it."""
    path = write_simulation(directory)
    text = path.read_text().replace("sentiment_analysis", "masked_language_modelling")
    text = text.replace('labels = ["negative", "positive"]\n', "")
    (directory / "public.txt").write_text("\n\n".join(f"net sales of bank {i} rise strong market" for i in range(30)))
    extra = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    path.write_text(text.replace("[model]", f'public = "public.txt"\npublic_texts = 20\n{extra}[model]'))
    return path


def test_a_run_measures_perplexity_before_and_after_and_charges_everybody(tmp_path: Path) -> None:
    result = run_simulation(Workspace.create(write_masked(tmp_path), tmp_path / "out"))
    assert set(result.before_round_1) == {"accuracy", "perplexity"}
    assert result.metrics["perplexity"] != result.before_round_1["perplexity"]
    assert all(0 < value <= 8 for value in result.epsilon.values())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert set(history[0]["by_institution"]) == {"north", "south", "west"}


def test_decoders_read_together_too_and_need_no_warming_up(tmp_path: Path) -> None:
    save_tiny_writer(tmp_path / "decoder", hidden_size=32)
    path = write_masked(tmp_path)
    path.write_text(
        path.read_text().replace("masked_", "causal_").replace(f"{tmp_path / 'base'}", f"{tmp_path / 'decoder'}")
    )
    workspace = Workspace.create(path, tmp_path / "out")
    start, cold = workspace.start(), workspace.models.adapted.initial()
    assert all((start[name] == cold[name]).all() for name in start)
    result = run_simulation(workspace)
    assert result.metrics["perplexity"] != result.before_round_1["perplexity"]
    assert all(0 < value <= 8 for value in result.epsilon.values())


def test_a_base_with_words_that_were_mined_from_private_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_masked(tmp_path)
    write_extended_base(str(tmp_path / "base"), ["ebitda"], tmp_path / "mined", private=True)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--set", f"model.base={tmp_path / 'mined'}"]) == 2
    assert "private text" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_head_is_warmed_up_once_and_round_1_starts_there(tmp_path: Path) -> None:
    workspace = Workspace.create(write_masked(tmp_path), tmp_path / "out")
    start = workspace.start()
    cold = workspace.models.adapted.initial()
    assert any((start[name] != cold[name]).any() for name in start)
    kept = (tmp_path / "out" / "start.safetensors").read_bytes()
    again = Workspace.reopen(tmp_path / "out").start()
    assert all((again[name] == start[name]).all() for name in start)
    assert (tmp_path / "out" / "start.safetensors").read_bytes() == kept


def test_rows_of_the_named_values_test_and_never_train(tmp_path: Path) -> None:
    workspace = Workspace.create(write_masked(tmp_path, test_values=["train"]), tmp_path / "out")
    # The split column's meaning is turned round: rows with "train" are the test.
    assert len(workspace.federation.test) > sum(len(part) for part in workspace.federation.train.values())


def test_a_folder_of_text_can_be_the_test_and_split_rows_still_do_not_train(tmp_path: Path) -> None:
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "2020-su.txt").write_text("profit rises in most districts\n\nloss falls in one")
    path = write_masked(tmp_path, test="summary", test_values=["test"])
    workspace = Workspace.create(path, tmp_path / "out")
    assert len(workspace.federation.test) == 2
    plain = write_masked(tmp_path)
    alone = Workspace.create(plain, tmp_path / "other")
    assert {n: len(d) for n, d in alone.federation.train.items()} == {
        n: len(d) for n, d in workspace.federation.train.items()
    }


def test_what_cannot_be_compared_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_masked(tmp_path)
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--baselines"]) == 2
    assert "--baselines" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="test_values"):
        Workspace.create(Path(_without(path, 'split_column = "split"\n', 'test_values = ["x"]\n')), tmp_path / "other")


def _without(path: Path, old: str, new: str) -> Path:
    changed = path.with_name("changed.toml")
    changed.write_text(path.read_text().replace(old, new))
    return changed


def test_texts_are_read_without_labels(tmp_path: Path) -> None:
    workspace = Workspace.create(write_masked(tmp_path), tmp_path / "out")
    federation = load_federation(workspace.simulation.data, (), "masked")
    assert federation.test.labels == ()
    assert read_corpus(tmp_path / "rows.csv")[0].startswith("north")

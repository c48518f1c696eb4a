"""`domain-adversarial`, and the directory of `adapt`, from the command line: what they print, and what they refuse."""

import json
from pathlib import Path

import pytest

from client.cli import main
from client.commands.domain_adversarial import add
from common.adapters.manifest import read_manifest
from tests.client.finetune.strategies.test_continual_pretraining import corpus, labelled
from tests.tiny_models import save_tiny_model


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Files of two domains and a tiny model, as options."""
    for name, rows in (("train", labelled()), ("test", labelled(20, seed=1))):
        lines = [f"{example.text},{rows.labels[example.label]}" for example in rows.examples]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "other.txt").write_text("\n\n".join(f"quarter euro market share {n}" for n in range(40)))
    (tmp_path / "notes.txt").write_text("profit rises\nloss of the bank\n")
    save_tiny_model(tmp_path / "base")
    given = ["--task", "document_classification", "--train", str(tmp_path / "train.csv")]
    given += ["--test", str(tmp_path / "test.csv"), "--other", str(tmp_path / "other.txt")]
    return [*given, "--base-model", str(tmp_path / "base"), "--max-tokens", "32", "--epochs", "1"]


def test_it_says_how_well_the_domains_are_told_apart_before_and_after(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add.__module__ == "client.commands.domain_adversarial"
    command = ["domain-adversarial", *files, "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    told = found["metrics"]["domains_told_apart"]
    assert 0 <= told["after"] <= 1
    assert bool(found["warnings"]) == (told["after"] >= told["before"] - 0.05)
    assert Path(found["report"]).is_file()
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"before and {told['after']:.3f} after (chance: 0.5)" in printed
    assert main(["predict", "--adapter", str(tmp_path / "out"), str(tmp_path / "notes.txt")]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [(["--strength", "-1"], "max_strength is -1"), (["--other", "absent.txt"], "no such data file")],
)
def test_bad_input_is_one_line(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    assert main(["domain-adversarial", *files, *change, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_predict_says_that_adapt_wrote_a_base_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_model(tmp_path / "base")
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(example.text for example in corpus(60).examples) + "\n")
    (tmp_path / "general.txt").write_text("the net of a market\n\ncompany to its by weak\n")
    command = ["adapt", "--domain", "sec_filings", "--corpus", str(tmp_path / "texts.csv"), "--max-tokens", "32"]
    command += ["--base-model", str(tmp_path / "base"), "--reference-text", str(tmp_path / "general.txt")]
    assert main([*command, "--no-new-words", "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["metrics"]["quality"]) >= {"quality", "domain_gain", "tokens_saved", "general_rise", "similarity"}
    assert isinstance(found["warnings"], list)
    (tmp_path / "notes.txt").write_text("profit rises\n")
    for place in (tmp_path / "out", tmp_path / "out" / "base"):
        assert main(["predict", "--adapter", str(place), str(tmp_path / "notes.txt")]) == 2
        error = capsys.readouterr().err.strip()
        assert "holds a base model and no adapter for a task" in error
        assert f"finetune --base-model {tmp_path / 'out' / 'base'}" in error
        assert "\n" not in error


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--dropout", "0.3", "--preset", "financial_ner"], {"dropout": 0.3, "rank": 32, "alpha": 64.0}),
        (["--adapter", "p_tuning", "--prompt-text", "Is this good news?"], {"prompt_text": "Is this good news?"}),
    ],
)
def test_dropout_preset_and_prompt_text_are_options_that_the_adapter_keeps(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    settings: dict[str, object],
) -> None:
    place = files.index("--other")
    given = files[:place] + files[place + 2 :]
    assert main(["finetune", *given, *options, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["settings"] == found["settings"] | settings
    record = read_manifest(tmp_path / "out")[0].to_record()
    assert record == record | settings
    assert main(["predict", "--adapter", str(tmp_path / "out"), str(tmp_path / "notes.txt")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt-text", "words"], "prompt_text is given, but lora has none"),
        (["--adapter", "prefix_tuning", "--prompt-text", "words"], "prefix_tuning starts from no words"),
        (["--adapter", "p_tuning", "--dropout", "0.1"], "dropout is given, but p_tuning has none"),
        (["--preset", "ner"], "preset is"),
    ],
)
def test_options_of_another_method_are_refused_in_one_line(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    place = files.index("--other")
    given = files[:place] + files[place + 2 :]
    assert main(["finetune", *given, *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()

"""The finance setting of FlowerTune: its prompts and its matching of labels, from files in the public form."""

import json
from pathlib import Path

import pytest

from benchmarks.flowertune_finance import FILE, main, public_label
from simulation.config import load_simulation
from simulation.loading import federation_of

ASKED = "What is the sentiment of this news? Please choose an answer from {negative/neutral/positive}."


def corpora(directory: Path, output: str = "positive") -> list[str]:
    named = []
    for name in ("news", "tweets", "questions"):
        rows = [
            {"instruction": ASKED, "input": f"{name} {number}: profit rose", "output": output} for number in range(60)
        ]
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        named.append(f"{name}={directory / name}.jsonl")
    return named


def test_each_corpus_is_an_institution_and_each_prompt_that_of_the_public_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["rows", str(tmp_path / "out"), *corpora(tmp_path)]) == 0
    first = json.loads((tmp_path / "out" / FILE).read_text().splitlines()[0])
    assert first["prompt"] == f"Instruction: {ASKED}\nInput: news 0: profit rose\nAnswer:"
    monkeypatch.setenv("FEDFIN_DATA", str(tmp_path / "out"))
    federation = federation_of(load_simulation(Path("benchmarks/flowertune_finance.toml")))
    assert set(federation.train) == {"news", "tweets", "questions"}
    assert sum(map(len, federation.train.values())) + len(federation.test) == 180
    assert 5 < len(federation.test) < 40


def test_a_text_without_a_label_counts_as_neutral() -> None:
    answers = ("positive", "Negative news", "neutral", "up", "positive, not negative", "POSITIVE")
    assert [public_label(answer) for answer in answers] == [
        "positive", "negative", "neutral", "neutral", "positive", "neutral",
    ]  # fmt: skip


def test_other_outputs_and_a_wrong_call_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rows", str(tmp_path / "out"), *corpora(tmp_path, "bullish")]) == 2
    assert capsys.readouterr().err == "news: an output is not one of negative, neutral, positive\n"
    assert not (tmp_path / "out").exists()
    assert main(["rows", str(tmp_path / "out"), "news"]) == 2
    assert main(["score", str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2

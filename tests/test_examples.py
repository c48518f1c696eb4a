"""Each example runs from start to end on small data, with a tiny model in place of MiniLM."""

import ast
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli import main, parser
from tests.tiny_models import save_tiny_model

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run an example with a tiny base model in an empty directory and return its output."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "tiny")

    def run(name: str, *options: str) -> str:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        capsys.readouterr()
        module.main(["--base-model", "tiny", "--out", "runs/example", *options])
        return capsys.readouterr().out

    yield run
    sys.modules.pop("synthetic", None)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_imports_the_public_face_and_the_standard_library_alone(path: Path) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"fedfin", "synthetic"}


@pytest.mark.parametrize("name", ["risk_classification", "several_tasks", "sec_filings"])
def test_the_commands_in_an_examples_text_parse(name: str) -> None:
    text = str(ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))).replace("\\\n", " ")
    commands = [shlex.split(line) for line in text.splitlines() if line.strip().startswith("fedfin-")]
    assert len(commands) >= 2
    for words in commands:
        parser().parse_args(["0" if word == "..." else word for word in words[1:]])


@pytest.mark.parametrize("name", ["risk_classification", "several_tasks", "sec_filings"])
def test_the_commands_in_an_examples_text_run_on_the_examples_data(
    name: str, run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the small data that the examples write. `...` stands for files of tasks that the text does not write out."""
    synthetic = importlib.import_module("synthetic")

    data = tmp_path / "data"
    if name == "several_tasks":
        for task, write in (
            ("sentiment_analysis", synthetic.write_sentiment),
            ("risk_classification", synthetic.write_risk),
            ("document_classification", synthetic.write_documents),
            ("financial_ner", synthetic.write_entities),
        ):
            write(data / task, rows=60)
    else:
        (synthetic.write_risk if name == "risk_classification" else synthetic.write_filings)(data, rows=60)
    notes = tmp_path / "notes.txt"
    notes.write_text("We may be unable to refinance our debt on acceptable terms.\n")
    text = str(ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))).replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip().startswith("fedfin-institution"):
            continue
        line = line.replace("DIR/", f"{data}/").replace("notes.txt", str(notes)).replace("sentences.txt", str(notes))
        for task, suffix in (("document_classification", "csv"), ("financial_ner", "txt")):
            files = f"--task {task} --train {data / task}/train.{suffix} --test {data / task}/test.{suffix}"
            line = line.replace(f"--task {task} --train ... --test ...", files)
        words = shlex.split(line)[1:]
        if words[0] in ("adapt", "finetune"):
            words += [] if "--base-model" in words else ["--base-model", "tiny"]
            words += ["--epochs", "1", "--max-tokens", "32"]
        assert main(words) == 0, words
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("1,")  # the one sentence, answered


def test_risk_classification_takes_a_rank_of_its_own(run: Callable[..., str]) -> None:
    printed = run("risk_classification", "--epochs", "1", "--rank", "20")
    assert "rank 20" in printed
    assert "F1 of the high-risk levels" in printed
    assert '"r": 20' in Path("runs/example/adapter/adapter_config.json").read_text()
    assert printed.count("\n") == 4


def test_four_tasks_are_trained_at_once_and_each_answers(run: Callable[..., str]) -> None:
    lines = run("several_tasks", "--epochs", "1").splitlines()
    tasks = ["sentiment_analysis", "risk_classification", "document_classification", "financial_ner"]
    assert [line.partition(":")[0] for line in lines] == tasks
    assert len(lines[-1].rpartition(", ")[2].split()) == 10  # a tag for each word of the note


def test_a_model_is_adapted_to_filings_within_its_limits_and_classifies_a_sentence(run: Callable[..., str]) -> None:
    lines = run("sec_filings", "--max-tokens", "32", "--max-hours", "0.5").splitlines()
    assert lines[0].endswith("words were added to the vocabulary")
    assert lines[1].startswith("loss a word on filings: ")
    assert lines[2].startswith("adaptation quality ")
    label, _, sentence = lines[-1].partition(": ")
    assert label in ("business", "management_discussion", "risk_factors")
    assert sentence == "We may be unable to refinance our debt on acceptable terms."


def test_an_example_takes_a_folder_of_data(run: Callable[..., str], tmp_path: Path) -> None:
    run("risk_classification", "--epochs", "1")
    again = run("risk_classification", "--epochs", "1", "--data", str(tmp_path / "runs" / "risk-data"))
    assert "F1 of the high-risk levels" in again

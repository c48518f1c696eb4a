import json
import shlex
from pathlib import Path

import pytest

from client.cli import parser
from client.commands import advise as advise_command
from client.commands import finetune
from client.finetune.options.advise import Advice, Machine, Model, Rows, advise
from client.finetune.options.defaults import BaseFacts, ResolvedSettings
from client.finetune.options.memory import MemoryEstimate
from common.config.adapter import AdapterConfig
from common.tasks import TASKS
from tests.client.commands.institution_commands import command_line
from tests.tiny_models import VOCABULARY, save_tiny_model

main = command_line(advise_command.add, finetune.add)
SENTIMENT, NER = TASKS["sentiment_analysis"], TASKS["financial_ner"]
MINILM = Model("minilm", BaseFacts(384, 512))
LARGE = Model("large", BaseFacts(4096, 8192))
GB = 10**9


def needed(weights: float) -> "object":
    """A model of so many GB in 32 bits, an eighth in 4, and 1 GB a 1,000 tokens of a batch, a tenth recomputed."""

    def need(settings: ResolvedSettings) -> MemoryEstimate:
        part = 8 if settings.adapter.method == "qlora" else 1
        recomputed = 10 if settings.gradient_checkpointing else 1
        batch = settings.batch_size * settings.max_tokens * 1_000_000 // recomputed
        return MemoryEstimate(0, int(weights * GB / part), 1, batch, int(weights * GB / 4), 1000)

    return need


def rows(count: int = 5000, length: int = 30, by_label: tuple[int, ...] = (2000, 1500, 1500)) -> Rows:
    return Rows(count, (length,) * 995 + (4 * length,) * 5, by_label)


def given(advice: Advice) -> dict[str, str]:
    return {choice.option: choice.value for choice in advice.choices}


def test_where_all_fits_it_is_lora_with_the_defaults_and_every_choice_has_a_figure() -> None:
    advice = advise(SENTIMENT, rows(), MINILM, Machine(16 * GB, 4, False), needed(0.1))
    assert advice.fits
    assert given(advice) == {
        "--base-model": "minilm",
        "--adapter": "lora",
        "--rank": "8",
        "--alpha": "16",
        "--learning-rate": "0.001",
        "--batch-size": "16",
        "--epochs": "5",
        "--max-tokens": "32",
    }
    for choice in advice.choices:
        assert any(c.isdigit() for c in choice.because), f"no figure: {choice}"
    assert advice.notes == ()


@pytest.mark.parametrize(
    ("memory", "method", "batch", "checkpointing"),
    [
        (100, "lora", "16", False),
        (21, "lora", "8", False),  # 0.8 of it: 16.4 GB of weights and half a batch's 0.26
        (20.67, "lora", "4", False),
        (20.55, "lora", "4", True),
        (10, "qlora", "16", False),
        (2.65, "qlora", "4", True),
    ],
)
def test_less_memory_means_smaller_batches_then_recomputing_then_four_bits(
    memory: float, method: str, batch: str, checkpointing: bool
) -> None:
    advice = advise(SENTIMENT, rows(), LARGE, Machine(int(memory * GB), 4, True), needed(16.4))
    chosen = given(advice)
    assert advice.fits
    assert (chosen["--adapter"], chosen["--batch-size"], "--gradient-checkpointing" in chosen) == (
        method,
        batch,
        checkpointing,
    )


def test_what_fits_nowhere_says_so_and_what_it_would_take() -> None:
    advice = advise(SENTIMENT, rows(), LARGE, Machine(GB, 4, True), needed(16.4))
    assert not advice.fits
    assert "nothing tried fits: at least 2.06 GB are needed and 1 GB are there" in " ".join(advice.notes)


def test_rows_labels_and_lengths_decide_rank_batch_and_cut() -> None:
    machine, need = Machine(16 * GB, 4, False), needed(0.1)
    few = given(advise(SENTIMENT, rows(300), MINILM, machine, need))
    assert (few["--rank"], few["--batch-size"], few["--epochs"]) == ("8", "8", "10")
    many = given(advise(SENTIMENT, rows(50_000), MINILM, machine, need))
    assert (many["--batch-size"], many["--epochs"]) == ("32", "3")
    assert given(advise(NER, rows(), MINILM, machine, need))["--rank"] == "32"
    long = advise(SENTIMENT, rows(length=700), MINILM, machine, need)
    assert given(long)["--max-tokens"] == "512", "no more than the model reads"


def test_imbalance_and_rare_labels_are_pointed_out_with_their_figures() -> None:
    advice = advise(
        SENTIMENT,
        rows(by_label=(1000, 100, 10)),
        MINILM,
        Machine(16 * GB, 4, False),
        needed(0.1),
    )
    assert "100 times the rows of the rarest (1000, 10)" in advice.notes[0]
    assert "the rarest label has 10 rows" in advice.notes[1]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    words = [word for word in VOCABULARY if word.isalpha() and len(word) > 3]
    lines = [f"{words[n % 20]} {words[(7 * n) % 23]} {n},{('negative', 'positive')[n % 2]}" for n in range(120)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(lines[:90]) + "\n")
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join(lines[90:]) + "\n")
    return {"model": save_tiny_model(tmp_path / "tiny"), "train": tmp_path / "train.csv", "test": tmp_path / "test.csv"}


def test_the_command_it_prints_is_one_that_finetune_carries_out(
    tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--train", str(files["train"]), "--test", str(files["test"]), "--out", str(tmp_path / "out")]
    asked = ["advise", "--task", "sentiment_analysis", "--base-model", str(files["model"]), *options]
    assert main([*asked, "--json"]) == 0
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert content["choices"]["adapter"]["value"] == "lora"
    assert content["memory_bytes"] > 0
    line = shlex.split(content["command"])
    assert line[:2] == ["fedfin-institution", "finetune"]
    assert main([*line[1:], "--epochs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["batch_size"] == 8
    assert main(asked) == 0
    assert content["command"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--task", "sentiment"], 'did you mean "sentiment_analysis"'),
        (["--train", "absent.csv"], "absent.csv: no such data file"),
        (["--text-column", "body"], "body"),
        (["--base-model", "./nowhere"], "base model ./nowhere: no such directory"),
        (["--memory-gb", "0"], "--memory-gb is 0: use a number above 0"),
        (["--task", "document_summarization", "--label-column", "label"], "it cannot write text"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    usual = ["--task", "sentiment_analysis", "--train", str(files["train"]), "--base-model", str(files["model"])]
    assert main(["advise", *usual, *change]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_placeholders_stand_where_no_file_was_named(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["--task", "sentiment_analysis", "--train", str(files["train"]), "--base-model", str(files["model"])]
    assert main(["advise", *usual]) == 0
    line = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
    found = parser().parse_args(line[1:])
    assert [str(found.test[0]), str(found.out)] == ["TEST_FILE", "OUT_DIRECTORY"]


def test_a_smaller_rank_is_tried_before_it_says_that_nothing_fits() -> None:
    def ranked(settings: ResolvedSettings) -> MemoryEstimate:
        assert isinstance(settings.adapter, AdapterConfig)
        return MemoryEstimate(0, 10**6, 20 * 10**6 * settings.adapter.rank, 10**6, 10**6, 1000)

    advice = advise(NER, rows(), LARGE, Machine(int(0.5 * GB), 4, True), ranked)
    assert advice.fits
    assert given(advice)["--rank"] == "16"
    assert "rank 32 would need more memory" in next(c.because for c in advice.choices if c.option == "--rank")


def test_if_nothing_fits_no_command_is_printed_and_the_code_is_not_zero(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--task", "sentiment_analysis", "--train", str(files["train"]), "--base-model", str(files["model"])]
    assert main(["advise", *usual, "--memory-gb", "0.001", "--json"]) == 1
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (content["fits"], content["command"]) == (False, None)
    assert main(["advise", *usual, "--memory-gb", "0.001"]) == 1
    assert "fedfin-institution" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("aims", "strategy"),
    [
        ([], "single_task"),
        (["--previous", "DIR"], "incremental"),
        (["--other-task", "risk_classification"], "multi_task"),
        (["--institutions", "3"], "federated"),
    ],
)
def test_the_command_is_that_of_the_first_strategy_and_parses(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], aims: list[str], strategy: str
) -> None:
    usual = ["--task", "sentiment_analysis", "--train", str(files["train"]), "--base-model", str(files["model"])]
    assert main(["advise", *usual, *aims, "--json"]) == 0
    content = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert content["strategies"][0]["strategy"] == strategy
    line = shlex.split(content["command"])
    if strategy == "federated":
        assert line[:2] == ["fedfin-simulate", "run"]
        return
    assert parser().parse_args(line[1:]).strategy == strategy

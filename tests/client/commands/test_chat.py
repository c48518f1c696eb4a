"""`chat` keeps the turns of a conversation, `predict` responds to each row, and other adapters are refused."""

import io
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import pytest
import torch

from client.commands import chat, predict
from client.inference.predictor import load_adapter
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest, write_manifest
from common.adapters.restore import build
from common.config.adapter import AdapterConfig
from common.data.datasets import Dataset
from common.evaluation import choosing
from common.tokenization.batches import TokenizedSet
from common.tokenization.responses import end_of_turn
from tests.client.commands.institution_commands import command_line, refusal
from tests.client.finetune.example_data import save_tiny_writer
from tests.tiny_models import save_tiny_model

NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def save_adapter(
    directory: Path, base: Path, task: str, labels: tuple[str, ...] = (), answers: Mapping[str, tuple[str, ...]] = NONE
) -> Path:
    lora = AdapterConfig(
        rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="AB"
    )
    recipe = Manifest(
        base_model=str(base),
        pooling="mean",
        max_tokens=32,
        tasks={task: labels},
        adapter=lora,
        seed=1,
        answers=answers,
    )
    model = build(recipe)
    model.save_pretrained(directory, beside={"fedfin.json": write_manifest(recipe, model.base.digest, {})})
    return directory


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat")
    save_tiny_writer(path / "base")
    return save_adapter(
        path / "adapter", path / "base", "instruction_tuning", answers={"trend": ("profit rises", "loss")}
    )


def ran(capsys: pytest.CaptureFixture[str], typed: str, *arguments: object) -> str:
    capsys.readouterr()
    with patch.object(sys, "stdin", io.StringIO(typed)):
        assert command_line(chat.add, predict.add)([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_conversation_keeps_its_turns_until_a_new_one_begins(
    adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[str, str]]] = []

    def respond(_: object, prompts: list[list[tuple[str, str]]], most: int) -> list[str]:
        assert most == 3
        seen.extend([list(turns) for turns in prompts])
        return [f"answer {len(seen)}"]

    monkeypatch.setattr("client.inference.predictor.Predictor.respond", respond)
    typed = "profit\n\nand loss?\n/new\nsales\n"
    options = ("--system", "be short", "--max-new-tokens", 3)
    assert ran(capsys, typed, "chat", "--adapter", adapter, *options) == "answer 1\nanswer 2\nanswer 3\n"
    start = ("system", "be short")
    assert seen[1] == [start, ("user", "profit"), ("assistant", "answer 1"), ("user", "and loss?")]
    assert seen[2] == [start, ("user", "sales")]
    told = json.loads(ran(capsys, "sales\n", "chat", "--adapter", adapter, *options, "--json"))
    assert [turn["role"] for turn in told["messages"]] == ["system", "user", "assistant"]


def test_predict_writes_a_response_for_each_row_of_a_file_and_each_line(
    adapter: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "profit rises"}]}) + "\n")
    options = ("--adapter", adapter, "--max-new-tokens", 3)
    from_file = json.loads(ran(capsys, "", "predict", file, *options, "--json"))
    typed = ran(capsys, "profit rises\n", "predict", *options, "--format", "jsonl")
    assert from_file["predictions"] == [json.loads(typed)]
    assert set(from_file["predictions"][0]) == {"row", "response"}


def test_predict_chooses_the_declared_answer_whose_tokens_are_likeliest(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(ran(capsys, "sales\nprofit\n", "predict", "--adapter", adapter, "--kind", "trend", "--json"))
    model = load_adapter(adapter).model
    for text, row in zip(("sales", "profit"), told["predictions"], strict=True):
        means = {}
        for answer in ("profit rises", "loss"):
            prompt = model.encode([text]).input_ids[0]
            written = [*model.base.tokenizer(answer, add_special_tokens=False)["input_ids"]]
            ids = torch.tensor([[*prompt, *written, end_of_turn(model.base.tokenizer)]])
            with torch.no_grad():
                scores = model.base.model(input_ids=ids).logits[0, prompt.size - 1 : -1].log_softmax(-1)
            means[answer] = float(scores.gather(1, ids[0, prompt.size :, None]).mean())
        assert row["response"] == max(means, key=lambda answer: means[answer])
    with patch.object(sys, "stdin", io.StringIO("profit\n")):
        refused = refusal(capsys, predict.add, "predict", "--adapter", adapter, "--kind", "other")
    assert "declared answers of trend: name one" in refused


def test_choices_among_very_many_answers_hold_few_prompts_in_memory(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = load_adapter(adapter), [(("user", word),) for word in ("sales", "profit", "loss", "a")]
    answers = tuple(f"{word} {end}" for word in ("profit", "loss") for end in ("rises", "falls", "a"))
    whole, sizes = choosing.choose(model.model, prompts, answers), list[int]()
    encode = type(model.model).encode_dataset

    def noted(own: AdaptedModel, rows: Dataset) -> TokenizedSet:
        sizes.append(len(rows))
        return encode(own, rows)

    monkeypatch.setattr(type(model.model), "encode_dataset", noted)
    monkeypatch.setattr(choosing, "_ROWS_AT_ONCE", 13)
    assert choosing.choose(model.model, prompts, answers) == whole
    assert sizes == [12, 12]


@pytest.mark.parametrize(("command", "typed"), [("chat", "profit\n"), ("predict", "profit\n")])
def test_a_length_of_0_is_refused_and_not_read_as_the_default(
    adapter: Path, capsys: pytest.CaptureFixture[str], command: str, typed: str
) -> None:
    with patch.object(sys, "stdin", io.StringIO(typed)):
        told = refusal(
            capsys, (chat if command == "chat" else predict).add, command, "--adapter", adapter, "--max-new-tokens", 0
        )
    assert "max_new_tokens is 0" in told


def test_a_line_that_is_not_utf_8_ends_a_conversation_in_one_line(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.object(sys, "stdin", io.StringIO("profit \udcff\n")):
        assert "prompt 1 is not UTF-8" in refusal(capsys, chat.add, "chat", "--adapter", adapter)


@pytest.mark.parametrize("damaged", [[], "up", ["up", 3]])
def test_a_damaged_set_of_answers_is_one_line(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: object
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    description = json.loads((copy / "fedfin.json").read_text())
    description["recipe"]["answers"] = {"trend": damaged}
    (copy / "fedfin.json").write_text(json.dumps(description))
    with patch.object(sys, "stdin", io.StringIO("profit\n")):
        told = refusal(capsys, predict.add, "predict", "--adapter", copy, "--kind", "trend")
    assert "no adapter of fedfin (fedfin.json is absent or damaged)" in told


def test_an_adapter_that_labels_does_not_chat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny_model(tmp_path / "base")
    labeller = save_adapter(tmp_path / "adapter", tmp_path / "base", "sentiment_analysis", ("up", "down"))
    assert "does not respond to prompts: use predict" in refusal(capsys, chat.add, "chat", "--adapter", labeller)
    asked = ("predict", "--adapter", labeller, "--max-new-tokens", 3, tmp_path / "none.csv")
    assert "leave it out" in refusal(capsys, predict.add, *asked)

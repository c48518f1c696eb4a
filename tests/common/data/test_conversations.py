"""Prompts and responses are read alike from each public form, and a faulty row is named in one line."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from common.data.conversations import check_prompt, turns_of
from common.data.datasets import Dataset, ResponseExample, text_of
from common.data.reading import read_labelled, refuse_unused_kinds
from common.data.unlabelled import read_prompts
from common.errors import DataError

TASK = "instruction_tuning"
USER = {"role": "user", "content": "Did it rise?"}
ASSISTANT = {"role": "assistant", "content": "up"}
SYSTEM = {"role": "system", "content": "Answer in one word."}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, *rows: dict[str, Any]) -> Dataset:
    return read_labelled(written(path / "rows.jsonl", *rows), TASK)


def test_a_chat_keeps_its_turns_and_the_last_one_is_the_response(tmp_path: Path) -> None:
    rows = read(tmp_path, {"messages": [SYSTEM, USER, ASSISTANT, {"role": "user", "content": "And now?"}, ASSISTANT]})
    [example] = rows.examples
    assert isinstance(example, ResponseExample)
    assert [role for role, _ in example.turns] == ["system", "user", "assistant", "user"]
    assert (example.text, example.response, example.kind) == ("And now?", "up", SYSTEM["content"])
    assert text_of(example) == "Answer in one word.\n\nDid it rise?\n\nup\n\nAnd now?"


def test_an_instruction_stands_before_its_input_and_names_the_kind_of_the_row(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        {"instruction": "Name the topic.", "input": "my card is lost", "output": "card"},
        {"instruction": "What is a bond?", "input": "", "output": "a loan"},
    )
    told = [(each.text, each.kind) for each in rows.examples if isinstance(each, ResponseExample)]
    assert told == [("Name the topic.\n\nmy card is lost", "Name the topic."), ("What is a bond?", "")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Did it rise?", "completion": "up"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"messages": [USER, ASSISTANT]},
    ],
    ids=["texts", "turns", "chat"],
)
def test_prompt_and_completion_are_texts_or_turns(tmp_path: Path, row: dict[str, Any]) -> None:
    assert read(tmp_path, row).examples == (ResponseExample("Did it rise?", "up"),)


def test_parquet_holds_the_same_and_named_columns_are_taken(tmp_path: Path) -> None:
    table = pyarrow.table({"messages": [[SYSTEM, USER, ASSISTANT]]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    [chat] = read_labelled(tmp_path / "rows.parquet", TASK).examples
    assert chat == ResponseExample(
        "Did it rise?", "up", before=(("system", SYSTEM["content"]),), kind=SYSTEM["content"]
    )
    (tmp_path / "rows.csv").write_text("question,answer,client\nDid it rise?,up,7\n")
    [row] = read_labelled(tmp_path / "rows.csv", TASK, "question", "answer", customer_column="client").examples
    assert row == ResponseExample("Did it rise?", "up", customer="7")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [USER]}, 'row 2, column "messages" holds no response'),
        ({"messages": [ASSISTANT, USER, ASSISTANT]}, "roles in a wrong order"),
        ({"messages": [USER, USER, ASSISTANT]}, "roles in a wrong order"),
        ({"messages": [SYSTEM, ASSISTANT]}, "roles in a wrong order"),
        ({"messages": [USER, SYSTEM, USER, ASSISTANT]}, "roles in a wrong order"),
        ({"messages": [{"role": "tool", "content": "x"}, ASSISTANT]}, "turn 1 has another role"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "turn 2 lacks a role or a content"),
        ({"messages": [USER, {"role": "assistant", "content": "secret \ud800"}]}, "turn 2 is not UTF-8"),
        ({"messages": [USER, ASSISTANT | {"tool_calls": [{"name": "secret"}]}]}, "turn 2 calls tools"),
        ({"messages": "USER: secret"}, "is no list of turns"),
        ({"messages": []}, "is no list of turns"),
    ],
)
def test_a_faulty_chat_is_refused_by_its_row_and_shows_no_text(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, {"messages": [USER, ASSISTANT]}, row)
    assert "secret" not in str(caught.value)
    assert "rise" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Did it rise?", "completion": " "}, 'column "completion" holds no response'),
        ({"prompt": "", "completion": "up"}, 'column "prompt" is empty'),
        ({"instruction": "", "input": "text", "output": "up"}, 'column "instruction" is empty'),
        ({"text": "a", "label": "b"}, "neither messages, nor instruction and output, nor prompt and completion"),
    ],
)
def test_a_row_without_prompt_or_response_and_a_file_of_another_kind_are_refused(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, row)


def test_turns_lose_the_blanks_around_them() -> None:
    assert turns_of([{"role": "user", "content": " up?\n"}], "here") == (("user", "up?"),)


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ("secret", "is no list of turns"),
        ([], "is no list of turns"),
        ([("user", 5)], "is no list of turns"),
        ([{"role": "user", "content": "secret"}], "is no list of turns"),
        ([("user", "secret"), ("assistant", "up")], "has roles in a wrong order"),
        ([("system", "secret")], "has roles in a wrong order"),
        ([("tool", "secret")], "has roles in a wrong order"),
        ([("user", "secret \ud800")], "is not UTF-8"),
    ],
)
def test_turns_that_are_no_prompt_are_refused_and_show_no_text(turns: Any, words: str) -> None:
    with pytest.raises(DataError, match=f"prompt 1 {words}") as caught:
        check_prompt(turns, "prompt 1")
    assert "secret" not in str(caught.value)


def test_a_prompt_may_hold_an_empty_response_that_a_model_gave() -> None:
    check_prompt([("user", "up?"), ("assistant", ""), ("user", "and now?")], "prompt 1")


def test_prompts_are_read_without_responses_or_with_those_left_out(tmp_path: Path) -> None:
    asked = read_prompts(written(tmp_path / "a.jsonl", {"messages": [SYSTEM, USER]}, {"messages": [USER, ASSISTANT]}))
    assert [turns[-1] for turns in asked] == [("user", "Did it rise?")] * 2
    assert read_prompts(written(tmp_path / "b.jsonl", {"prompt": "Did it rise?"})) == [(("user", "Did it rise?"),)]
    (tmp_path / "c.txt").write_text("one\ntwo\n")
    assert read_prompts(tmp_path / "c.txt") == [(("user", "one"),), (("user", "two"),)]
    with pytest.raises(DataError, match="neither messages, nor instruction, nor prompt"):
        read_prompts(written(tmp_path / "d.jsonl", {"text": "a"}))


TRENDS = {"trend": ("up", "down")}


def asked(kind: str | None, output: str) -> dict[str, Any]:
    row = {"instruction": "Name the trend.", "input": "profit", "output": output}
    return row if kind is None else row | {"kind": kind}


def test_a_column_names_the_kind_of_a_row_and_otherwise_its_instruction_does(tmp_path: Path) -> None:
    rows = read(tmp_path, asked("trend", "up"), asked(None, "down"), asked("", "down"))
    kinds = [each.kind for each in rows.examples if isinstance(each, ResponseExample)]
    assert kinds == ["trend", "Name the trend.", "Name the trend."]


def test_an_answer_that_is_not_declared_is_an_error_or_its_row_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", asked("trend", "Up."), asked("trend", "flat"), asked("other", "flat"))
    with pytest.raises(DataError, match=r'row 2, column "output" holds an answer that is not one of up, down'):
        read_labelled(path, TASK, answers=TRENDS)
    kept = read_labelled(path, TASK, answers=TRENDS, leave_out_others=True)
    assert [each.response for each in kept.examples if isinstance(each, ResponseExample)] == ["Up.", "flat"]
    assert kept.left_out == {"rows with answers that are not declared": 1}
    assert kept.answers == TRENDS


def test_a_declared_kind_that_no_row_has_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", asked("trnd", "up"))
    with pytest.raises(DataError, match=r'no row is of kind "trend", which task.answers declares'):
        refuse_unused_kinds(read_labelled(path, TASK, answers=TRENDS), "task.answers")
